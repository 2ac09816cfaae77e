"""The command line ``factseg``: reads options, starts stages, shows what they report.

Data goes to standard output, everything else to standard error. Exit code 0: all went well; 1: some or all of
it failed; 2: wrong usage. Nothing heavy is imported before a command needs it.
"""

import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

from flows.cli_options import (
    DEFAULT_STORE,
    DirectOption,
    ExtractionOptions,
    FileOption,
    JsonOption,
    PipelineOptions,
    StoreOption,
    TextOptions,
    nested_settings,
)
from flows.cli_output import (
    SegmentForm,
    exit_code,
    print_catalogue,
    print_checks,
    print_evaluation,
    print_facts,
    print_json,
    print_outcomes,
    print_segments,
    progress_bars,
    say,
    say_outcomes,
    segments_by_video,
)
from flows.reports import StageReport

if TYPE_CHECKING:
    from pipeline.settings import StrictSettings

app = App(
    name="factseg",
    help="From a folder of videos to a trained, scored, scheduled action segmenter.\n\nExample: factseg demo",
    help_format="plaintext",
    result_action="return_value",
)

_NO_FILE = FileOption()
_NO_EXTRACTION = ExtractionOptions()
_NO_TEXT = TextOptions()
_NO_OPTIONS = PipelineOptions()


def main() -> None:
    """Entry point of the ``factseg`` command."""
    sys.exit(run_command(sys.argv[1:]))


def run_command(arguments: list[str]) -> int:
    """Carry out one command line and return its exit code."""
    from fact.errors import FactError
    from pipeline.errors import PipelineError, SettingsError
    from storage.errors import StorageError

    _set_up_logging()
    try:
        return int(app(arguments) or 0)
    except SettingsError as error:
        say(f"error: {error}")
        return 2
    except (PipelineError, StorageError, FactError) as error:
        say(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        say("stopped; what was finished is kept")
        return 130


@app.command
def demo(
    *,
    store: StoreOption = DEFAULT_STORE,
    data: Path = Path("factseg-demo"),
    pretrained: Annotated[bool, Parameter(negative="")] = False,
    direct: DirectOption = False,
    json: JsonOption = False,
) -> int:
    """Draw a small data set, run the whole chain on it, and segment one new video.

    Never downloads: weights come from the cache, else they are seeded random numbers, which is said wherever a
    result made from them is shown.

    Example: factseg demo

    Args:
        store: Folder of all artefacts.
        data: Folder for the drawn videos and labels.
        pretrained: Insist on real weights; download them where a hub can be reached.
        direct: Call the plain functions instead of the Prefect flows.
        json: Print JSON on standard output.
    """
    from flows.demo import run_demo

    with progress_bars():
        report, segmented = run_demo(data=data, store=store, pretrained=pretrained, direct=direct)
    say_outcomes(report)
    say_outcomes(segmented)
    if json:
        print_json({"pipeline": dict(report.facts), "segmented": segments_by_video(segmented, store=store)})
    else:
        print_segments(segmented, store=store, form="table")
        print_evaluation(report.facts["evaluate"])
    return max(exit_code(report), exit_code(segmented))


@app.command
def probe(paths: list[Path], /, *, store: StoreOption = DEFAULT_STORE, json: JsonOption = False) -> int:
    """What the videos are: codec, size, rate, frames; a row for every regular file of a folder.

    Example: factseg probe videos --json

    Args:
        paths: Video files, and folders whose files are taken.
        store: Folder of all artefacts.
        json: Print JSON on standard output.
    """
    from pipeline.catalogue import probe_all
    from storage.store import Store

    rows = probe_all(paths, store=Store(store))
    print_catalogue(rows, as_json=json)
    return int(any(row.status == "failed" for row in rows))


@app.command
def extract(
    videos: list[Path],
    /,
    *,
    store: StoreOption = DEFAULT_STORE,
    extraction: ExtractionOptions = _NO_EXTRACTION,
    file: FileOption = _NO_FILE,
    direct: DirectOption = False,
    json: JsonOption = False,
) -> int:
    """Decode videos once and store the features they do not have yet.

    Example: factseg extract videos --features i3d-rgb:stride=8,clip:stride=4

    Args:
        videos: Video files, and folders whose files are taken.
        store: Folder of all artefacts.
        direct: Call the plain functions instead of the Prefect flow.
        json: Print JSON on standard output.
    """
    from pipeline.settings import ExtractSettings

    values = nested_settings(file, store=store, videos=videos, extraction=extraction)
    report = _execute("extract", ExtractSettings, values, direct=direct)
    print_outcomes(report, as_json=json)
    return exit_code(report)


@app.command
def embed(
    *,
    mapping: Path,
    store: StoreOption = DEFAULT_STORE,
    text: TextOptions = _NO_TEXT,
    extraction: ExtractionOptions = _NO_EXTRACTION,
    file: FileOption = _NO_FILE,
    direct: DirectOption = False,
    json: JsonOption = False,
) -> int:
    """Store the text embedding of every class of a mapping.

    Example: factseg embed --mapping mapping.txt

    Args:
        mapping: File of lines '<id> <class name>'.
        store: Folder of all artefacts.
        direct: Call the plain functions instead of the Prefect flow.
        json: Print JSON on standard output.
    """
    from pipeline.settings import EmbedSettings

    values = nested_settings(file, store=store, mapping=mapping, text=text, extraction=extraction)
    report = _execute("embed-text", EmbedSettings, values, direct=direct)
    print_facts(report, as_json=json)
    return exit_code(report)


@app.command
def train(
    *,
    options: PipelineOptions = _NO_OPTIONS,
    store: StoreOption = DEFAULT_STORE,
    direct: DirectOption = False,
    json: JsonOption = False,
) -> int:
    """Train a model on features that `factseg extract` stored.

    Example: factseg train --videos v --labels l --mapping mapping.txt --splits s

    Args:
        store: Folder of all artefacts.
        direct: Call the plain functions instead of the Prefect flow.
        json: Print JSON on standard output.
    """
    from pipeline.settings import RunSettings

    report = _execute("train", RunSettings, options.nested(store=store), direct=direct)
    print_facts(report, as_json=json)
    return exit_code(report)


@app.command
def evaluate(
    *,
    run: str = "",
    options: PipelineOptions = _NO_OPTIONS,
    store: StoreOption = DEFAULT_STORE,
    direct: DirectOption = False,
    json: JsonOption = False,
) -> int:
    """Score a trained run on the test videos, write its report, and make it champion where it is the best.

    Example: factseg evaluate --videos v --labels l --mapping mapping.txt --splits s

    Args:
        run: Key of a run, or its first digits; unless given, the run that these very options train.
        store: Folder of all artefacts.
        direct: Call the plain functions instead of the Prefect flow.
        json: Print JSON on standard output.
    """
    from pipeline.settings import EvaluateSettings

    report = _execute("evaluate", EvaluateSettings, options.nested(store=store, run=run), direct=direct)
    if json:
        print_json(dict(report.facts))
    else:
        print_evaluation(report.facts)
    return exit_code(report)


@app.command(name="run")
def run_pipeline(
    *,
    options: PipelineOptions = _NO_OPTIONS,
    store: StoreOption = DEFAULT_STORE,
    direct: DirectOption = False,
    json: JsonOption = False,
) -> int:
    """From videos and labels to features, a trained model, scores, a report and a champion.

    Example: factseg run --videos v --labels l --mapping mapping.txt --splits s

    Args:
        store: Folder of all artefacts.
        direct: Call the plain functions instead of the Prefect flows.
        json: Print JSON on standard output.
    """
    from pipeline.settings import RunSettings

    report = _execute("full-pipeline", RunSettings, options.nested(store=store), direct=direct)
    if json:
        print_json(dict(report.facts))
    else:
        print_evaluation(report.facts["evaluate"])
    return exit_code(report)


@app.command
def segment(
    videos: list[Path],
    /,
    *,
    model: str | None = None,
    run: str | None = None,
    i3d_rgb: Path | None = None,
    i3d_flow: Path | None = None,
    clip_pretrained: str | None = None,
    device: str | None = None,
    store: StoreOption = DEFAULT_STORE,
    direct: DirectOption = False,
    json: JsonOption = False,
    csv: Annotated[bool, Parameter(negative="")] = False,
) -> int:
    """Say which action is done when in new videos. No labels are needed.

    Example: factseg segment new.mp4

    Args:
        videos: Video files, and folders whose files are taken.
        model: Name of the model in the registry, where the store has several.
        run: Key of a run, or its first digits, instead of the champion.
        i3d_rgb: Weights of the RGB stream of I3D, where they are not in the cache.
        i3d_flow: Weights of the optical-flow stream of I3D, where they are not in the cache.
        clip_pretrained: Tag of open_clip, or folder, of the CLIP weights the model was trained on; 'openai' unless
            given.
        device: 'auto' (unless given), 'cpu', 'cuda:0', ...
        store: Folder of all artefacts.
        direct: Call the plain functions instead of the Prefect flow.
        json: Print JSON on standard output.
        csv: Print CSV on standard output.
    """
    from pipeline.errors import SettingsError
    from pipeline.settings import SegmentSettings

    if json and csv:
        raise SettingsError("--json and --csv exclude each other; give one.")
    values = nested_settings(
        _NO_FILE,
        store=store,
        videos=videos,
        model=model,
        run=run,
        i3d_rgb=i3d_rgb,
        i3d_flow=i3d_flow,
        clip_pretrained=clip_pretrained,
        device=device,
    )
    report = _execute("segment", SegmentSettings, values, direct=direct)
    form: SegmentForm = "json" if json else "csv" if csv else "table"
    print_segments(report, store=store, form=form)
    return exit_code(report)


@app.command
def report(
    run: str = "", /, *, model: str = "", store: StoreOption = DEFAULT_STORE, json: JsonOption = False
) -> int:
    """Scores of a run and where its report lies; of the champion unless a run is named.

    Example: factseg report

    Args:
        run: Key of a run, or its first digits.
        model: Name of the model in the registry, where the store has several.
        store: Folder of all artefacts.
        json: Print JSON on standard output.
    """
    from pipeline.evaluate import find_evaluations
    from storage.store import Store

    found = find_evaluations(Store(store), run=run, model=model)
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
        store: Folder of all artefacts.
        json: Print JSON on standard output.
    """
    from flows.doctor import examine

    checks = examine(store)
    print_checks(checks, as_json=json)
    return int(any(check.status == "bad" for check in checks))


def _execute(name: str, kind: "type[StrictSettings]", values: dict[str, Any], *, direct: bool) -> StageReport:
    """Validate the settings, carry out the stage with progress bars, and say what failed."""
    from flows.invoke import execute
    from pipeline.settings import build_settings

    settings = build_settings(kind, values, source="settings")
    with progress_bars():
        made = execute(name, settings, direct=direct)
    say_outcomes(made)
    return made


def _set_up_logging() -> None:
    """Our log on standard error; Prefect's own log only from warnings on, unless its user decided otherwise."""
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "WARNING")
    level = os.environ.get("FACTSEG_LOG_LEVEL", "INFO").upper()
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    for room in ("fact", "storage", "pipeline", "flows"):
        logger = logging.getLogger(room)
        logger.setLevel(level)
        logger.addHandler(handler)
        logger.propagate = False
