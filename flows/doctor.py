"""What this machine has and whether the store is in order."""

import importlib.metadata
import importlib.util
import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

VERSIONS = ("torch", "torchvision", "open_clip_torch", "prefect", "pyarrow", "scipy", "numpy", "av", "decord", "mlflow")


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """One thing looked at."""

    what: str
    status: Literal["ok", "missing", "bad"]
    """``missing`` is no fault: something optional is not here. ``bad`` needs mending."""
    found: str
    """What was found, and what to do about it."""


def examine(store: Path) -> list[Check]:
    """Versions, devices, decoders, weights and the store's health."""
    return [*_versions(), *_devices(), *_decoders(), *_weights(), *_store(store)]


def _versions() -> Iterator[Check]:
    yield Check(what="factseg", status="ok", found=importlib.metadata.version("factseg"))
    yield Check(what="python", status="ok", found=f"{platform.python_version()} on {platform.platform()}")
    for name in VERSIONS:
        try:
            yield Check(what=name, status="ok", found=importlib.metadata.version(name))
        except importlib.metadata.PackageNotFoundError:
            optional = name == "decord"
            found = "no wheel for this platform; PyAV decodes alone" if optional else "not installed: reinstall factseg"
            yield Check(what=name, status="missing" if optional else "bad", found=found)


def _devices() -> Iterator[Check]:
    import torch

    cores = os.cpu_count() or 1
    yield Check(what="cpu", status="ok", found=f"{cores} cores, {torch.get_num_threads()} threads used")
    if not torch.cuda.is_available():
        yield Check(what="gpu", status="missing", found="torch sees no CUDA device; everything runs on the CPU")
    for index in range(torch.cuda.device_count()):
        gib = torch.cuda.get_device_properties(index).total_memory / 2**30
        yield Check(what=f"cuda:{index}", status="ok", found=f"{torch.cuda.get_device_name(index)}, {gib:.0f} GiB")


def _decoders() -> Iterator[Check]:
    """Each decoder is tried on a video written on the spot: a library that imports may still fail to decode."""
    import tempfile

    from pipeline.errors import VideoError
    from pipeline.probe import probe_video
    from pipeline.video import read_frames
