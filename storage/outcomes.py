"""What became of the videos of a stage, as a table: Parquet for programs, JSON for people."""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from storage.places import Place
from storage.sealed_json import write_sealed_json
from storage.tables import write_table

OUTCOME_LAYOUT = "outcomes/1"
"""Version of the schema below."""

_COLUMNS = ("video", "status", "reason", "path")
OUTCOME_SCHEMA = pa.schema([pa.field(name, pa.string(), nullable=False) for name in _COLUMNS])


def write_outcomes(folder: Place, stage: str, rows: Sequence[dict[str, Any]]) -> list[Place]:
    """Write ``<stage>.parquet`` and ``<stage>.json`` in ``folder``, over those of an earlier run.

    Args:
        folder: Made unless it exists.
        stage: Name of the stage.
        rows: A mapping with ``video``, ``status``, ``reason`` and ``path`` for each video; more keys are left out.
    """
    kept = [{name: row[name] for name in _COLUMNS} for row in rows]
    table = pa.Table.from_pylist(kept, schema=OUTCOME_SCHEMA)
    parquet, json = folder / f"{stage}.parquet", folder / f"{stage}.json"
    write_table(parquet, table, layout=OUTCOME_LAYOUT, metadata={"stage": stage})
    write_sealed_json(json, {"stage": stage, "videos": kept})
    return [parquet, json]
