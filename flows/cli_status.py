"""The command that says what there is of every video."""

from flows.cli_app import app
from flows.cli_options import DEFAULT_STORE, JsonOption, PipelineOptions, StoreOption
from flows.cli_output import print_json, print_status

_NO_OPTIONS = PipelineOptions()


@app.command
def status(
    *, options: PipelineOptions = _NO_OPTIONS, store: StoreOption = DEFAULT_STORE, json: JsonOption = False
) -> int:
    """What is done, failed, stale or missing of every video, stage by stage, and why. Nothing is made.

    Judged by the options and the settings file; without any, by the settings of the newest run in the store. The
    same table is kept in the store as status.parquet.

    Example: factseg status

    Args:
        store: Folder of all artefacts, or a URL such as s3://bucket/factseg.
        json: Print JSON on standard output.
    """
    from dataclasses import asdict

    from pipeline.settings import StatusSettings
    from pipeline.settings_reading import build_settings
    from pipeline.status import examine_videos, newest_settings
    from storage.store import Store

    values = options.nested(store=store)
    given = {name: section for name, section in values.items() if section != {}}
    if set(given) == {"store"}:
        given = newest_settings(Store(store, must_exist=True)) | given
    rows = examine_videos(build_settings(StatusSettings, given, source="settings"))
    if json:
        print_json([asdict(row) for row in rows])
    else:
        print_status(rows)
    return int(any(row.status == "failed" for row in rows))
