"""Timelines at rest: when each frame of a video is shown, and what the container says of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from storage.places import Place
from storage.tables import read_table, write_table

TIMELINE_LAYOUT = "timeline/1"
"""Version of the table: ``frame`` int32, ``time`` float64 seconds."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredTimeline:
    """Frame times of one video and the facts found while probing it."""

    frame_times: NDArray[np.float64]
    """(N,) seconds from the first frame."""
    facts: dict[str, Any]
    """Whatever the prober wrote, JSON-able."""


def write_timeline(
    path: Place, *, frame_times: NDArray[np.float64], facts: Mapping[str, Any], anew: bool = False
) -> None:
    """Store the frame times (N,) in seconds and JSON-able facts of one video; ``anew`` replaces what is there."""
    frames = pa.array(np.arange(len(frame_times), dtype=np.int32))
    table = pa.table({"frame": frames, "time": pa.array(frame_times)})
    write_table(path, table, layout=TIMELINE_LAYOUT, metadata={"facts": dict(facts)}, once=not anew)


def read_timeline(path: Place) -> StoredTimeline:
    """The timeline at ``path``.

    Raises:
        MissingArtefactError: There is none.
        CorruptArtefactError: The file is no timeline of a known layout.
    """
    table, metadata = read_table(path, layout=TIMELINE_LAYOUT)
    return StoredTimeline(frame_times=table.column("time").to_numpy(), facts=metadata["facts"])
