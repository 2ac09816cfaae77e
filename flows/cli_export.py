"""The command ``factseg export``: segments for other tools."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from flows.cli_app import app
from flows.cli_options import DEFAULT_STORE, JsonOption, StoreOption
from flows.cli_output import exit_code, print_facts, say_outcomes
from flows.reports import StageReport


@app.command
def export(
    *,
    form: Annotated[
        Literal["mstcn", "json", "csv", "vtt", "elan", "parquet"], Parameter(name=("--format", "-F"))
    ],
    out: Path,
    run: str = "",
    model: str = "",
    labels: str = "",
    dataset: str = "",
    split: str = "split1",
    blank_as: str = "",
    fps: float | None = None,
    device: str = "auto",
    store: StoreOption = DEFAULT_STORE,
    json: JsonOption = False,
) -> int:
    """Write predictions, or imported labels, in a format of other tools.

    Example: factseg export --format vtt --out subtitles

    Args:
        form: mstcn (recognition files), json, csv, vtt (WebVTT), elan or parquet.
        out: Folder for the files; files of the same names are replaced.
        run: Key of a run, or its first digits, instead of the champion.
        model: Name of the model in the registry, where the store has several.
        labels: Name of an imported data set whose labels are written, instead of predictions.
        dataset: Name of an imported data set whose test recordings are predicted from their features.
        split: Which split of it.
        blank_as: What stands for a blank in class names of recognition files; mapping.txt is written beside them.
        fps: Frames per second, where the rate was not said when the data set was imported.
        device: 'auto' (unless given), 'cpu', 'cuda:0', ...
        store: Folder of all artefacts.
        json: Print JSON on standard output.
    """
    from pipeline import export as exporting
    from pipeline.errors import SettingsError
    from pipeline.outcome import VideoOutcome
    from storage.store import Store

    if labels and (dataset or run or model):
        raise SettingsError(
            "--labels writes labels, --dataset, --run and --model choose predictions; give one kind."
        )
    opened = Store(store, must_exist=True)
    if labels:
        what = exporting.exported_labels(labels, store=opened)
    elif dataset:
        what = exporting.predicted_dataset(
            run=run, model=model, dataset=dataset, split=split, device=device, store=opened
        )
    else:
        what = exporting.exported_predictions(run=run, model=model, store=opened)
    made = exporting.export(what, form=form, folder=out, blank_as=blank_as, fps=fps)
    outcomes = tuple(
        VideoOutcome(video=video, status="failed", reason=made.failed[video])
        if video in made.failed
        else VideoOutcome(video=video, status="done")
        for video in what.videos
    )
    report = StageReport(
        stage="export", outcomes=outcomes, facts={"folder": str(out), "files": len(made.files), **what.origin}
    )
    say_outcomes(report)
    print_facts(report, as_json=json)
    return exit_code(report)
