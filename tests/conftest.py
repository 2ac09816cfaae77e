"""What every test of the project has in common."""

import os
from pathlib import Path

import pytest

from tests.browser import browser
from tests.object_store import bucket, s3_server

__all__ = ["browser", "bucket", "s3_server"]

# Before any dependency is imported: silent, and with settings of the tests' own.
os.environ["PREFECT_LOGGING_LEVEL"] = "WARNING"
os.environ.pop("FACTSEG_STORE", None)
os.environ.pop("MLFLOW_TRACKING_URI", None)

SHARED = Path(__file__).resolve().parents[1].parent / "shared"


def pytest_collection_modifyitems(items):
    """Skip GPU tests where there is none, unless the runner promises one."""
    must_have_gpu = "FAIL_WITHOUT_CUDA" in os.environ
    marked = [item for item in items if item.get_closest_marker("needs_cuda")]
    if not marked or must_have_gpu:
        return
    import torch

    if not torch.cuda.is_available():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))
