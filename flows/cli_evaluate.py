"""Commands that score: evaluate a run, or predictions in files, and compare two of them."""

from pathlib import Path
from typing import Literal

from flows.cli_app import app, execute_stage
from flows.cli_options import DEFAULT_STORE, DirectOption, JsonOption, PipelineOptions, StoreOption
from flows.cli_output import exit_code, print_comparison, print_evaluation, print_json, say_outcomes
from flows.reports import StageReport

_NO_OPTIONS = PipelineOptions()


@app.command
def evaluate(
    *,
    run: str = "",
    predictions: Path | None = None,
    blank_as: str = "",
    fps: float = 15.0,
    out: Path | None = None,
    videos_beside: str = "",
    options: PipelineOptions = _NO_OPTIONS,
    store: StoreOption = DEFAULT_STORE,
    direct: DirectOption = False,
    json: JsonOption = False,
) -> int:
    """Score a trained run on the test videos, write its report, and make it champion where it is the best.

    With --predictions, score recognition files of MS-TCN's form instead: no model and no store, only --labels, and
    --mapping, --background and --unseen if you have them.

    Example: factseg evaluate --videos v --labels l --mapping mapping.txt --splits s

    Args:
        run: Key of a run, or its first digits; unless given, the run that these very options train.
        predictions: Folder of recognition files to score without a model.
        blank_as: What stands for a blank in the class names of --predictions, such as _.
        fps: Frames per second, for the times in a report on --predictions.
        out: Folder for a report on --predictions; without it the scores are only printed.
        videos_beside: Where the report's page finds the video files, for a player: a folder relative to the page,
            such as ../videos, or an address. Without it the page has no player and says no path.
        store: Folder of all artefacts, or a URL such as s3://bucket/factseg.
        direct: Call the plain functions instead of the Prefect flow.
        json: Print JSON on standard output.
    """
    from pipeline.errors import SettingsError
    from pipeline.settings import EvaluateSettings

    if predictions is not None:
        if run:
            raise SettingsError("--predictions and --run exclude each other; give one.")
        report = _evaluate_files(
            predictions,
            options=options,
            blank_as=blank_as,
            fps=fps,
            out=out,
            videos_beside=videos_beside,
        )
    elif out is not None:
        raise SettingsError("--out belongs to --predictions: a run has its folder.")
    else:
        values = options.nested(store=store, run=run, videos_beside=videos_beside)
        report = execute_stage("evaluate", EvaluateSettings, values, direct=direct)
    if json:
        print_json(dict(report.facts))
    else:
        print_evaluation(report.facts)
    return exit_code(report)


@app.command
def compare(
    first: str,
    second: str,
    /,
    *,
    convention: Literal["mstcn", "fact"] = "mstcn",
    seed: int = 0,
    store: StoreOption = DEFAULT_STORE,
    json: JsonOption = False,
) -> int:
    """Whether one run is better than another, or only luckier: a paired test over the test videos both scored.

    Example: factseg compare 3f2a 91bc

    Args:
        first: Key of an evaluated run, or its first digits, or a folder that `evaluate --out` wrote; several,
            joined by commas, are pooled: a run per split.
        second: The same for the other side.
        convention: Which rules to score by.
        seed: Of the draws.
        store: Folder of all artefacts, or a URL such as s3://bucket/factseg.
        json: Print JSON on standard output.
    """
    from pipeline.compare_runs import compare_runs

    found = compare_runs(first, second, store=store, convention=convention, seed=seed)
    if json:
        print_json(found.to_dict())
    else:
        print_comparison(found)
    return 0


def _evaluate_files(
    predictions: Path,
    *,
    options: PipelineOptions,
    blank_as: str,
    fps: float,
    out: Path | None,
    videos_beside: str,
) -> StageReport:
    from pipeline.errors import SettingsError
    from pipeline.evaluate_files import evaluate_files, score_facts, write_file_report

    dataset = options.dataset
    if dataset.labels is None:
        raise SettingsError("--predictions needs --labels, the folder of true labels.")
    if fps <= 0:
        raise SettingsError(f"--fps {fps} is no rate; give frames per second above 0.")
    if videos_beside and out is None:
        raise SettingsError("--videos-beside belongs to a page: give --out too, the folder for the report.")
    found = evaluate_files(
        predictions,
        dataset.labels,
        mapping=dataset.mapping,
        background=dataset.background or (),
        unseen=options.training.unseen or (),
        blank_as=blank_as,
    )
    facts = score_facts(found.scores, found.zero_shot)
    if out is not None:
        write_file_report(
            out, found, predictions=predictions, labels=dataset.labels, fps=fps, videos_beside=videos_beside
        )
        facts["report"] = str(out / "report.html")
    report = StageReport(stage="evaluate", outcomes=found.outcomes, facts=facts, notes=found.notes)
    say_outcomes(report)
    return report
