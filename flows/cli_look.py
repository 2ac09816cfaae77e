"""Commands that look and change nothing: probe, report, doctor."""

from flows.cli_app import app
from flows.cli_options import (
    DEFAULT_STORE,
    ExtractionOptions,
    FileOption,
    JsonOption,
    PipelineOptions,
    RecursiveOption,
    StoreOption,
    TextOptions,
)
from flows.cli_output import (
    print_catalogue,
    print_checks,
    print_evaluation,
    print_json,
)

_NO_FILE = FileOption()
_NO_EXTRACTION = ExtractionOptions()
_NO_TEXT = TextOptions()
_NO_OPTIONS = PipelineOptions()


@app.command
def probe(
    paths: list[str],
    /,
    *,
    recursive: RecursiveOption = False,
    video_cache_gib: float | None = None,
    store: StoreOption = DEFAULT_STORE,
    json: JsonOption = False,
) -> int:
    """What the videos are: codec, size, rate, frames; a row for every regular file of a folder.

    Example: factseg probe videos --json

    Args:
        paths: Video files, folders whose files are taken, and URLs such as s3://bucket/videos/a.mp4.
        recursive: Take the files of deeper folders too.
        video_cache_gib: GiB of this machine's disk that videos fetched from URLs may take together; 20 unless given.
        store: Folder of all artefacts, or a URL such as s3://bucket/factseg.
        json: Print JSON on standard output.
    """
    from pipeline.catalogue import probe_all
    from pipeline.remote_videos import DEFAULT_CACHE_GIB, as_address
    from storage.store import Store

    given = [as_address(path) for path in paths]
    cache_gib = DEFAULT_CACHE_GIB if video_cache_gib is None else video_cache_gib
    rows = probe_all(given, store=Store(store), cache_gib=cache_gib, recursive=recursive)
    print_catalogue(rows, as_json=json)
    return int(any(row.status == "failed" for row in rows))


@app.command
def report(
    run: str = "", /, *, model: str = "", store: StoreOption = DEFAULT_STORE, json: JsonOption = False
) -> int:
    """Scores of a run and where its report lies; of the champion unless a run is named.

    Example: factseg report

    Args:
        run: Key of a run, or its first digits.
        model: Name of the model in the registry, where the store has several.
        store: Folder of all artefacts, or a URL such as s3://bucket/factseg.
        json: Print JSON on standard output.
    """
    from pipeline.evaluate import find_evaluations
    from storage.store import Store

    found = find_evaluations(Store(store, read_only=True), run=run, model=model)
    if json:
        print_json(found)
    else:
        for facts in found:
            print_evaluation(facts)
    return 0


@app.command
def doctor(*, store: StoreOption = DEFAULT_STORE, json: JsonOption = False) -> int:
    """What is here: versions, devices, decoders, weights, and whether the store is in order.

    Example: factseg doctor

    Args:
        store: Folder of all artefacts, or a URL such as s3://bucket/factseg.
        json: Print JSON on standard output.
    """
    from flows.doctor import examine

    checks = examine(store)
    print_checks(checks, as_json=json)
    return int(any(check.status == "bad" for check in checks))
