"""Which evaluations two names stand for, and their comparison."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.compare import Comparison, compare
from pipeline.errors import DatasetError
from pipeline.evaluate import find_evaluations
from pipeline.metrics_counts import pool
from pipeline.report_tables import VIDEOS_FILE, read_counts
from storage.errors import MissingArtefactError
from storage.places import place_of
from storage.store import Store

if TYPE_CHECKING:
    from pipeline.metrics_counts import Convention, CountTable
    from storage.places import Address, Place


def compare_runs(
    first: str, second: str, *, store: Address, convention: Convention = "mstcn", seed: int = 0
) -> Comparison:
    """Compare two runs, or two sets of runs, over the test videos they share.

    Args:
        first: Key of a run, or its first digits, or a folder that an evaluation of files wrote; several, joined
            by commas, are pooled: a run per split.
        second: The same for the other side.
        store: Where runs and their evaluations lie, not opened for folders; of several evaluations of a run the latest
            is taken.
        convention: Which rules to score by.
        seed: Of the draws.

    Raises:
        MissingArtefactError: A run does not exist or was not evaluated.
        DatasetError: The two were scored against different labels of a video.
        LabelError: They share no video, or one side scored a video twice.
    """
    sides = [_side(name, store=store, convention=convention) for name in (first, second)]
    (ours, truths), (theirs, other_truths) = sides
    unlike = sorted(
        video for video in set(truths) & set(other_truths) if truths[video] != other_truths[video]
    )
    if unlike:
        raise DatasetError(
            f"{first!r} and {second!r} were scored against different labels of {unlike[0]!r} ({len(unlike)} such "
            "videos). Evaluate both on the same labels first."
        )
    return compare(ours, theirs, seed=seed)


def _side(names: str, *, store: Address, convention: Convention) -> tuple[CountTable, dict[str, str]]:
    found = [
        read_counts(_folder(name, store=store), convention=convention) for name in names.split(",") if name
    ]
    truths: dict[str, str] = {}
    for _, digests in found:
        truths |= digests
    return pool([counts for counts, _ in found]), truths


def _folder(name: str, *, store: Address) -> Place:
    given = Path(name)
    if (given / VIDEOS_FILE).is_file():
        return given
    folder = place_of(find_evaluations(Store(store, read_only=True), run=name, model="")[-1]["report"]).parent
    if not (folder / VIDEOS_FILE).is_file():
        raise MissingArtefactError(
            f"Run {name!r} was evaluated by an older version, which kept no counts. Run `factseg evaluate` on it."
        )
    return folder
