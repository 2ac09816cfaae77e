"""Commands that run for long or on a schedule: watch, retrain."""

from pathlib import Path

from flows.cli_app import app
from flows.cli_options import (
    DEFAULT_STORE,
    DirectOption,
    FileOption,
    JsonOption,
    PipelineOptions,
    StoreOption,
    nested_settings,
)
from flows.cli_output import exit_code, print_facts, print_outcomes, progress_bars, say, say_outcomes

_NO_FILE = FileOption()
_NO_OPTIONS = PipelineOptions()


@app.command
def watch(
    folder: Path,
    /,
    *,
    out: Path | None = None,
    settle_seconds: float | None = None,
    poll_seconds: float | None = None,
    looks: int | None = None,
    model: str | None = None,
    run: str | None = None,
    device: str | None = None,
    store: StoreOption = DEFAULT_STORE,
    direct: DirectOption = False,
    json: JsonOption = False,
) -> int:
    """Segment the videos that appear in a folder, each once, until interrupted; nothing is moved.

    Example: factseg watch incoming --out segmented

    Args:
        folder: Folder to watch.
        out: Folder for the results (JSON, CSV, WebVTT and a page for each video); beside the video unless given.
        settle_seconds: A file that did not change for so long is complete; 10 unless given.
        poll_seconds: Time between two looks; 5 unless given.
        looks: Stop after so many looks.
        model: Name of the model in the registry, where the store has several.
        run: Key of a run, or its first digits, instead of the champion.
        device: 'auto' (unless given), 'cpu', 'cuda:0', ...
        store: Folder of all artefacts.
        direct: Call the plain functions instead of the Prefect flow.
        json: Print JSON on standard output.
    """
    from flows.invoke import execute
    from flows.reports import StageReport
    from flows.watch import watch as watch_folder
    from pipeline.outcome import summary
    from pipeline.settings_operations import WatchSettings
    from pipeline.settings_reading import build_settings
    from pipeline.watching import MonotonicClock

    segment = nested_settings(_NO_FILE, store=store, videos=[folder], model=model, run=run, device=device)
    values = nested_settings(
        _NO_FILE,
        folder=folder,
        out=out,
        settle_seconds=settle_seconds,
        poll_seconds=poll_seconds,
        segment=segment,
    )
    settings = build_settings(WatchSettings, values, source="settings")
    outcomes = watch_folder(
        settings,
        call=lambda batch: execute("segment", batch, direct=direct),
        clock=MonotonicClock(),
        looks=looks,
    )
    # What failed was said when it did.
    if outcomes:
        say(f"watch: {summary(outcomes)}")
    print_outcomes(StageReport(stage="watch", outcomes=tuple(outcomes)), as_json=json)
    return int(any(outcome.status == "failed" for outcome in outcomes))


@app.command
def retrain(
    *,
    options: PipelineOptions = _NO_OPTIONS,
    margin: float | None = None,
    max_class_drop: float | None = None,
    store: StoreOption | None = None,
    direct: DirectOption = False,
    json: JsonOption = False,
) -> int:
    """Where labelled videos are new or changed since the champion: train a challenger, promote it if not worse.

    Example: factseg retrain --settings factseg.toml

    Args:
        margin: Points of F1@50 that the lower confidence bound of the gain may not fall below; 0 unless given.
        max_class_drop: Points of frame F1 that a class may lose; 10 unless given.
        store: Folder of all artefacts.
        direct: Call the plain functions instead of the Prefect flows.
        json: Print JSON on standard output.
    """
    from flows.invoke import execute_retrain
    from pipeline.settings_operations import RetrainSettings
    from pipeline.settings_reading import build_settings

    values = options.nested(store=store, margin=margin, max_class_drop=max_class_drop)
    settings = build_settings(RetrainSettings, values, source="settings")
    with progress_bars():
        report = execute_retrain(settings, direct=direct)
    say_outcomes(report)
    print_facts(report, as_json=json)
    return exit_code(report)


@app.command
def services(folder: Path, /, *, worker: bool = True) -> int:
    """Run Prefect, MLflow and a worker on a PostgreSQL of their own, until interrupted. No containers.

    Everything listens on this machine alone. Prints, one per line, what other terminals must set; then waits.

    Example: factseg services services

    Args:
        folder: Where the services keep their data, logs and password; a second start finds everything again.
        worker: Whether to deploy the flows and start a worker.
    """
    from flows.cli_output import print_lines
    from flows.services import run_services

    with run_services(folder, worker=worker) as running:
        print_lines(f"export {name}={value}" for name, value in running.environment.items())
        running.wait()
    return 0
