"""What this machine has and whether the store is in order."""

import importlib.metadata
import importlib.util
import os
import platform
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from storage.places import Address

Status = Literal["ok", "missing", "bad"]

VERSIONS = (
    "torch",
    "torchvision",
    "open_clip_torch",
    "prefect",
    "pyarrow",
    "scipy",
    "numpy",
    "av",
    "decord",
    "mlflow",
)
"""Packages whose versions matter when something goes wrong."""

NETWORKS = ("i3d-rgb", "i3d-optical-flow", "clip/ViT-B-32")
"""Networks whose weights are looked for."""

_TRIAL_FRAMES = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """One thing looked at."""

    what: str
    status: Status
    """``missing`` is no fault: something optional is not here. ``bad`` needs mending."""
    found: str
    """What was found, and what to do about it."""


def examine(store: "Address") -> list[Check]:
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
            found = (
                "no wheel for this platform; PyAV decodes alone"
                if optional
                else "not installed: reinstall factseg"
            )
            yield Check(what=name, status="missing" if optional else "bad", found=found)


def _devices() -> Iterator[Check]:
    import torch

    cores = os.cpu_count() or 1
    yield Check(what="cpu", status="ok", found=f"{cores} cores, {torch.get_num_threads()} threads used")
    if not torch.cuda.is_available():
        yield Check(
            what="gpu", status="missing", found="torch sees no CUDA device; everything runs on the CPU"
        )
    for index in range(torch.cuda.device_count()):
        gib = torch.cuda.get_device_properties(index).total_memory / 2**30
        yield Check(
            what=f"cuda:{index}", status="ok", found=f"{torch.cuda.get_device_name(index)}, {gib:.0f} GiB"
        )


def _decoders() -> Iterator[Check]:
    """Each decoder reads a video written on the spot: a library that imports may still fail to decode."""
    import numpy as np

    from pipeline.encode import write_h264
    from pipeline.errors import VideoError
    from pipeline.probe import DecoderName, probe_video
    from pipeline.video import read_frames

    decoders: list[DecoderName] = ["pyav"]
    if importlib.util.find_spec("decord"):
        decoders.append("decord")
    pictures = [np.full((64, 96, 3), 12 * index, np.uint8) for index in range(_TRIAL_FRAMES)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trial.mp4"
        write_h264(path, pictures, width=96, height=64, fps=25)
        for name in decoders:
            what = f"decoding by {name}"
            try:
                facts = probe_video(path, decoder=name)
                frames = sum(len(batch) for batch, _ in read_frames(path, facts))
            except VideoError as error:
                yield Check(what=what, status="bad", found=f"{error}: reinstall {name}")
            else:
                status: Status = "ok" if frames == _TRIAL_FRAMES else "bad"
                yield Check(what=what, status=status, found=f"{frames} of {_TRIAL_FRAMES} frames of H.264")


def _weights() -> Iterator[Check]:
    """Real weights that are here without a download."""
    from pipeline.errors import WeightsError
    from pipeline.weights import WeightsChoice, WeightsPolicy, find_here

    choice = WeightsChoice(policy=WeightsPolicy.CACHED)
    for network in NETWORKS:
        try:
            weights = find_here(network, choice)
        except WeightsError as error:
            yield Check(what=f"weights of {network}", status="bad", found=str(error))
        else:
            found = weights.origin if weights else "none here: `--weights random` works without, for trials"
            yield Check(what=f"weights of {network}", status="ok" if weights else "missing", found=found)


def _store(address: "Address") -> Iterator[Check]:
    """Whether every artefact of the store opens."""
    from storage.errors import StorageError
    from storage.health import examine_store
    from storage.places import place_of
    from storage.store import Store

    root = place_of(address)
    if not (root / "store.json").exists():
        yield Check(
            what="store", status="missing", found=f"{root} does not exist yet; the first command makes it"
        )
        return
    try:
        health = examine_store(Store(root))
    except StorageError as error:
        yield Check(what="store", status="bad", found=str(error))
        return
    counts = ", ".join(f"{count} {kind}" for kind, count in health.counts.items())
    yield Check(what="store", status="ok", found=f"{root}: {counts}")
    for problem in health.problems:
        yield Check(what="store", status="bad", found=problem)
