"""Between a class id per frame and segments: labels as the store keeps them."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import LabelError
from pipeline.labels import ClassList
from pipeline.metrics import segment_bounds
from storage.segments import Segment


def segments_of_labels(
    labels: NDArray[np.int64], *, video: str, boundaries: NDArray[np.float64], classes: ClassList
) -> list[Segment]:
    """Runs of equal labels.

    Args:
        labels: (N,) class ids.
        video: Video id.
        boundaries: (N + 1,) seconds at which the frames start, and the last one ends.
        classes: The classes.
    """
    bounds = segment_bounds(labels).tolist()
    return [
        Segment(
            video=video,
            start_frame=start,
            end_frame=end,
            start_seconds=float(boundaries[start]),
            end_seconds=float(boundaries[end]),
            label=classes.names[labels[start]],
        )
        for start, end in pairwise(bounds)
    ]


def labels_of_segments(segments: Sequence[Segment], *, classes: ClassList, source: str) -> NDArray[np.int64]:
    """(N,) class ids up to the end of the last segment.

    Raises:
        LabelError: A frame before that end has no label, or two; or a class is not in the list.
    """
    if not segments:
        raise LabelError(f"{source} has no segment. Import its labels again.")
    labels = np.full(max(segment.end_frame for segment in segments), -1, dtype=np.int64)
    for segment in segments:
        (index,) = classes.ids_named([segment.label])
        part = labels[segment.start_frame : segment.end_frame]
        if (part >= 0).any():
            raise LabelError(
                f"{source}: frame {segment.start_frame + int((part >= 0).argmax())} is in two segments. "
                "Give every frame one label."
            )
        part[:] = index
    missing = np.flatnonzero(labels < 0)
    if len(missing):
        raise LabelError(
            f"{source}: frame {missing[0]} is in no segment ({len(missing)} such frames). "
            "Import the labels again with --gaps CLASS, the class of frames between segments."
        )
    return labels
