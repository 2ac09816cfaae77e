"""Commands about the registry: which models there are, and which one leads."""

from typing import Annotated

from cyclopts import Parameter

from flows.cli_app import app
from flows.cli_options import DEFAULT_STORE, JsonOption, StoreOption
from flows.cli_output import print_json, print_models, say


@app.command
def models(*, store: StoreOption = DEFAULT_STORE, json: JsonOption = False) -> int:
    """Every version of every model, with its scores on the test videos, and which one is champion.

    Example: factseg models

    Args:
        store: Folder of all artefacts, or a URL such as s3://bucket/factseg.
        json: Print JSON on standard output.
    """
    from pipeline.promotion import list_models
    from storage.store import Store

    found = list_models(Store(store, must_exist=True))
    if json:
        print_json(found)
    elif found:
        print_models(found)
    else:
        say(f"{store} has no model yet; `factseg run` makes one")
    return 0


@app.command
def promote(
    name: str,
    version: int | None = None,
    /,
    *,
    rollback: Annotated[bool, Parameter(negative="")] = False,
    store: StoreOption = DEFAULT_STORE,
    json: JsonOption = False,
) -> int:
    """Choose by hand which version of a model segments new videos.

    Example: factseg promote badminton 3

    Args:
        name: Name of the model.
        version: Number of the version that is to be champion.
        rollback: Instead of a version: the one that was champion before.
        store: Folder of all artefacts, or a URL such as s3://bucket/factseg.
        json: Print JSON on standard output.
    """
    from pipeline.errors import SettingsError
    from pipeline.promotion import promote_version, roll_back
    from storage.store import Store

    if rollback == (version is not None):
        raise SettingsError("Give either the number of a version or --rollback.")
    opened = Store(store, must_exist=True)
    entry = roll_back(opened, name) if version is None else promote_version(opened, name, version)
    if json:
        print_json({"model": entry.name, "champion": entry.version, "run": entry.run})
    else:
        say(f"version {entry.version} (run {entry.run[:12]}) now is the champion of {entry.name}")
    return 0
