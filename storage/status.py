"""The status table at rest: for each video and stage whether its artefact is there, and if not, why."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import pyarrow as pa

from storage.places import Place
from storage.tables import read_table, write_table

STATUS_LAYOUT = "status/1"
"""Version of the schema below."""

State = Literal["done", "failed", "stale", "missing"]
"""``stale``: an artefact is there, but today's settings, versions and contents give another one."""

_FIELDS: "list[pa.Field[Any]]" = [
    pa.field("video", pa.string(), nullable=False),
    pa.field("path", pa.string(), nullable=False),
    pa.field("stage", pa.string(), nullable=False),
    pa.field("what", pa.string(), nullable=False),
    pa.field("status", pa.string(), nullable=False),
    pa.field("reason", pa.string()),
    pa.field("key", pa.string()),
]
STATUS_SCHEMA = pa.schema(_FIELDS)


@dataclass(frozen=True, kw_only=True, slots=True)
class StatusRow:
    """What became of one video in one stage."""

    video: str
    """Video id; empty for what belongs to the data set as a whole."""
    path: str
    """Path or URL of the video; empty where there is none."""
    stage: str
    """``probe``, ``features``, ``labels``, ``texts``, ``prediction`` or ``evaluation``."""
    what: str
    """Which of several: the profile of features, the data set of imported labels, the model of a prediction."""
    status: State
    reason: str | None = None
    """Why it is not done, in one sentence; None where it is."""
    key: str | None = None
    """Key of the artefact that today's settings give, where it is known."""


def write_status(path: Place, rows: Sequence[StatusRow]) -> None:
    """Store the table in place of the last one."""
    table = pa.Table.from_pylist([asdict(row) for row in rows], schema=STATUS_SCHEMA)
    write_table(path, table, layout=STATUS_LAYOUT, metadata={})


def read_status(path: Place) -> list[StatusRow]:
    """The table that was last written.

    Raises:
        MissingArtefactError: None ever was.
        CorruptArtefactError: The file is no status table of a known layout.
    """
    table, _ = read_table(path, layout=STATUS_LAYOUT)
    return [StatusRow(**row) for row in table.to_pylist()]
