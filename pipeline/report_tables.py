"""The tables of a report as Parquet: videos, classes, confusion and segments; and the counts read back from them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa

from pipeline.errors import DatasetError
from pipeline.metrics import segment_bounds
from pipeline.metrics_counts import COLUMNS, Convention, CountTable
from storage.keys import digest_of
from storage.tables import read_table, write_table

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from pipeline.metrics import Scores
    from pipeline.report import Report
    from pipeline.report_timelines import VideoTimeline
    from storage.places import Place

VIDEOS_FILE: Final = "videos.parquet"
TABLES: Final = (VIDEOS_FILE, "classes.parquet", "confusion.parquet", "segments.parquet")
"""Files that `write_tables` writes."""

_LAYOUT: Final = "report-{}/1"
_COLUMN_NAME: Final = str.maketrans(" -@", "___")


def write_tables(folder: Place, report: Report) -> None:
    """Write the tables of a report; each row says by which convention it was scored, where that matters."""
    metadata = {"run": report.run_id, "title": report.title, "classes": list(report.class_names)}
    digests = {
        timeline.video_id: _truth_digest(timeline, report.class_names) for timeline in report.timelines
    }
    tables = {
        "videos": _concatenated([_videos(scores, digests) for scores in report.scores]),
        "classes": _concatenated([_classes(scores) for scores in report.scores]),
        "confusion": _confusion(report.scores[0]),
        "segments": pa.concat_tables(
            [_segments(timeline, report.class_names) for timeline in report.timelines]
        ),
    }
    facts = metadata | {"has_background": {s.convention: s.counts.has_background for s in report.scores}}
    for name, table in tables.items():
        write_table(folder / f"{name}.parquet", table, layout=_LAYOUT.format(name), metadata=facts)


def read_counts(folder: Place, *, convention: Convention) -> tuple[CountTable, dict[str, str]]:
    """The counts of an evaluation, and the digest of each video's truth.

    Raises:
        MissingArtefactError: The folder holds no such table.
        CorruptArtefactError: The table is damaged or of another layout.
        DatasetError: It was not scored by this convention.
    """
    table, facts = read_table(folder / VIDEOS_FILE, layout=_LAYOUT.format("videos"))
    rows = [row for row in table.to_pylist() if row["convention"] == convention]
    if not rows:
        raise DatasetError(f"{folder / VIDEOS_FILE} has no scores by {convention!r}. Evaluate the run again.")
    counts = CountTable(
        video_ids=tuple(row["video"] for row in rows),
        counts_VK=np.array([[row[name] for name in COLUMNS] for row in rows], dtype=np.float64),
        convention=convention,
        has_background=facts["has_background"][convention],
    )
    return counts, {row["video"]: row["truth"] for row in rows}


def _truth_digest(timeline: VideoTimeline, names: Sequence[str]) -> str:
    """The same for the same class names on the same frames, whatever the ids."""
    if timeline.truth is None:
        return ""
    bounds = segment_bounds(timeline.truth)
    labels = [names[label] for label in timeline.truth[bounds[:-1]].tolist()]
    return digest_of({"labels": labels, "bounds": bounds.tolist()})


def _videos(scores: Scores, digests: Mapping[str, str]) -> dict[str, Any]:
    table = scores.counts
    return {
        "video": list(table.video_ids),
        "convention": [scores.convention] * len(table.video_ids),
        "truth": [digests[video] for video in table.video_ids],
        **{name: table.counts_VK[:, column] for column, name in enumerate(COLUMNS)},
        **{
            name.translate(_COLUMN_NAME): pa.array(values, from_pandas=True)
            for name, values in table.figures_of(table.counts_VK).items()
            if name != "edit"
        },
    }


def _classes(scores: Scores) -> dict[str, Any]:
    rows = scores.per_class
    names = ("class_id", "name", "support", "predicted", "precision", "recall", "f1", "iou")
    return {
        "convention": [scores.convention] * len(rows),
        **{name: [getattr(row, name) for row in rows] for name in names},
    }


def _confusion(scores: Scores) -> pa.Table:
    """Only cells that hold frames; frames do not depend on the convention."""
    truth, predicted = np.nonzero(scores.confusion)
    names = np.array(scores.class_names, dtype=object)
    return pa.table(
        {
            "truth": pa.array(names[truth].tolist(), pa.string()),
            "predicted": pa.array(names[predicted].tolist(), pa.string()),
            "frames": scores.confusion[truth, predicted],
        }
    )


def _segments(timeline: VideoTimeline, names: Sequence[str]) -> pa.Table:
    parts = [
        _runs(timeline, labels, names, kind=kind)
        for kind, labels in (("truth", timeline.truth), ("predicted", timeline.predicted))
        if labels is not None
    ]
    return pa.concat_tables(parts)


def _runs(timeline: VideoTimeline, labels: NDArray[np.int64], names: Sequence[str], *, kind: str) -> pa.Table:
    bounds = segment_bounds(labels)
    starts = bounds[:-1]
    seconds = np.append(timeline.times[starts], timeline.end_seconds)
    scores = None
    if kind == "predicted" and timeline.confidence is not None:
        scores = np.add.reduceat(timeline.confidence.astype(np.float64), starts) / np.diff(bounds)
    count = len(starts)
    return pa.table(
        {
            "video": pa.array([timeline.video_id] * count, pa.string()),
            "kind": pa.array([kind] * count, pa.string()),
            "start_frame": starts,
            "end_frame": bounds[1:],
            "start_seconds": seconds[:-1],
            "end_seconds": seconds[1:],
            "class": pa.array([names[label] for label in labels[starts].tolist()], pa.string()),
            "score": pa.nulls(count, pa.float64()) if scores is None else pa.array(scores),
        }
    )


def _concatenated(parts: Iterable[dict[str, Any]]) -> pa.Table:
    return pa.concat_tables([pa.table(part) for part in parts], promote_options="permissive")
