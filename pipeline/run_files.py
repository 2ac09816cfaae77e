"""The files of a finished run that need no torch to be read."""

from storage.folders import read_manifest
from storage.places import Place
from storage.tables import open_parquet

CURVES_FILE = "curves.parquet"
"""Figures by epoch."""

SETTINGS_FILE = "settings.json"
"""The settings the run was started with."""

DESCRIPTION_FILE = "model.json"
"""What the model is, without its weights."""


def trained_at(folder: Place) -> str:
    """When a finished run was trained, by ISO 8601 in UTC as its manifest says; copying a store does not change it.

    Later times sort after earlier ones, and before all of them an empty one: of a run whose version noted none.

    Raises:
        StorageError: The run is not finished, or its manifest cannot be read.
    """
    return str(read_manifest(folder).get("trained_at", ""))


def read_curves(folder: Place) -> list[dict[str, float]]:
    """Figures by epoch of a finished run; every row has ``epoch``, and what was measured after that epoch."""
    rows = open_parquet(folder / CURVES_FILE).read().to_pylist()
    return [{name: value for name, value in row.items() if value is not None} for row in rows]
