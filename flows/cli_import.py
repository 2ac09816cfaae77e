"""Commands that take in what people have already: ``factseg import mstcn`` and ``factseg import labels``."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter

from flows.cli_app import app
from flows.cli_options import DEFAULT_STORE, JsonOption, StoreOption
from flows.cli_output import exit_code, print_facts, progress_bars, say_outcomes
from flows.reports import StageReport

import_app = App(
    name="import",
    help="Take in features and labels that exist already.\n\nExample: factseg import mstcn breakfast",
)
app.command(import_app)


@import_app.command
def mstcn(
    folder: Path,
    /,
    *,
    name: str = "",
    features: Path | None = None,
    labels: Path | None = None,
    mapping: Path | None = None,
    splits: Path | None = None,
    fps: float | None = None,
    orientation: Literal["DT", "TD"] | None = None,
    store: StoreOption = DEFAULT_STORE,
    json: JsonOption = False,
) -> int:
    """Take in a data set of features in the MS-TCN layout; then train with `--dataset NAME`, without a video.

    Example: factseg import mstcn breakfast --name breakfast

    Args:
        folder: Folder with features/, groundTruth/, mapping.txt and splits/.
        name: Name of the data set; its folder's unless given.
        features: Folder of <video>.npy, where it lies elsewhere.
        labels: Folder of <video>.txt, where it lies elsewhere.
        mapping: File of lines '<id> <class name>', where it lies elsewhere.
        splits: Folder of train.<split>.bundle and test.<split>.bundle, where it lies elsewhere.
        fps: Rows of features per second; unless given, times count rows.
        orientation: 'DT' or 'TD' where the files themselves do not tell which axis is time.
        store: Folder of all artefacts.
        json: Print JSON on standard output.
    """
    from pipeline.import_mstcn import MstcnFolder, import_mstcn, plain_name
    from storage.store import Store

    usual = MstcnFolder.at(folder)
    place = MstcnFolder(
        root=folder,
        features=features or usual.features,
        labels=labels or usual.labels,
        mapping=mapping or usual.mapping,
        splits=splits or usual.splits,
    )
    with progress_bars():
        made = import_mstcn(
            place, name=name or plain_name(folder), store=Store(store), fps=fps, orientation=orientation
        )
    report = StageReport(stage="import", outcomes=made.outcomes, facts=made.facts, notes=made.notes)
    say_outcomes(report)
    print_facts(report, as_json=json)
    return exit_code(report)


@import_app.command
def labels(
    paths: list[Path],
    /,
    *,
    form: Annotated[
        Literal["mstcn", "recognition", "ranges", "csv", "json", "elan", "via", "labelstudio", "vtt"],
        Parameter(name=("--format", "-F")),
    ],
    name: str,
    videos: Path | None = None,
    fps: float | None = None,
    mapping: Path | None = None,
    splits: Path | None = None,
    gaps: str = "",
    base: Literal[0, 1] | None = None,
    end: Literal["inclusive", "exclusive"] | None = None,
    unit: Literal["frames", "seconds"] | None = None,
    tier: str = "",
    blank_as: str = "",
    store: StoreOption = DEFAULT_STORE,
    json: JsonOption = False,
) -> int:
    """Take in labels of other tools; then train with `--dataset NAME --videos DIR`.

    Example: factseg import labels annotations --format elan --name kitchen --videos videos --gaps background

    Args:
        paths: Label files, and folders of them.
        form: mstcn (a class per frame), recognition, ranges, csv, json, elan, via, labelstudio or vtt.
        name: Name of the data set.
        videos: Folder of the videos: seconds become frames by their own time stamps.
        fps: Frames per second, where there are no videos to ask.
        mapping: File of lines '<id> <class name>'; unless given, the classes found, by name.
        splits: Folder of train.<split>.bundle and test.<split>.bundle.
        gaps: Class of the frames between segments.
        base: Number of the first frame, where the format leaves it open.
        end: Whether the last frame named belongs to the segment, where the format leaves it open.
        unit: Unit of columns that are called start and end only.
        tier: Tier (ELAN), attribute (VIA) or control (Label Studio) to take, where there are several.
        blank_as: What stands for a blank in class names of recognition files.
        store: Folder of all artefacts.
        json: Print JSON on standard output.
    """
    from pipeline.import_labels import LabelSource, import_labels
    from pipeline.label_rows import ReadingRules
    from pipeline.labels import read_mapping
    from storage.store import Store

    classes = () if mapping is None else read_mapping(mapping).names
    rules = ReadingRules(base=base, end=end, unit=unit, tier=tier, blank_as=blank_as, classes=classes)
    source = LabelSource(
        paths=tuple(paths), format=form, rules=rules, fps=fps, videos=videos, splits=splits, gaps=gaps
    )
    made = import_labels(source, name=name, store=Store(store))
    report = StageReport(stage="import", outcomes=made.outcomes, facts=made.facts, notes=made.notes)
    say_outcomes(report)
    print_facts(report, as_json=json)
    return exit_code(report)
