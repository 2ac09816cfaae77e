"""Runs by the first digits of their keys, as people type them."""

from storage.errors import MissingArtefactError
from storage.folders import is_finished
from storage.places import listed
from storage.store import Store


def find_run(store: Store, digits: str) -> str:
    """Key of the one finished run that starts with ``digits``.

    Raises:
        MissingArtefactError: No finished run starts so, or several do.
    """
    keys = [
        folder.name
        for folder in listed(store.runs, "*")
        if folder.name.startswith(digits) and is_finished(folder)
    ]
    if len(keys) == 1:
        return keys[0]
    found = f"{len(keys)} runs start so; give more digits" if keys else "no finished run starts so"
    raise MissingArtefactError(
        f"Run {digits!r} in {store.root}: {found}. `factseg report` names the champion's."
    )
