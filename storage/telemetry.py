"""Nothing this program starts reports to anybody, unless its user decided otherwise in the environment."""

import os

SILENT = {
    "DO_NOT_TRACK": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "RAY_USAGE_STATS_ENABLED": "0",
}
"""Switches of every dependency that would send usage data."""


def silence() -> None:
    """Set every switch that is not set. It must run before the dependencies are imported."""
    for name, value in SILENT.items():
        os.environ.setdefault(name, value)
