"""Which device the networks run on, and in which precision."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.errors import SettingsError
from pipeline.profiles import Precision

log = logging.getLogger(__name__)

_VIDEO_BYTES = 8 << 30
"""Of a GPU's memory for each video: I3D in float32 took 3.6 GiB, optical flow and other networks may take more."""
_BF16_FLAGS = {"amx_bf16", "avx512_bf16", "bf16"}  # x86 (Intel and AMD), then ARM


def choose_device(name: str) -> torch.device:
    """The device that ``name`` asks for; ``auto`` takes a GPU where there is one. Of a list, the first.

    Raises:
        SettingsError: torch does not know the name, or has no such device here.
    """
    name = name.partition(",")[0].strip()
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        # torch built without CUDA answers a request for it with an AssertionError.
        reason = str(error).splitlines()[0]
        raise SettingsError(
            f"Device {name!r} cannot be used ({reason}). Use `--device auto` or `cpu`."
        ) from error
    return device


def choose_devices(names: str) -> tuple[torch.device, ...]:
    """The devices that names separated by commas ask for, e.g. ``cuda:0,cuda:1``.

    Raises:
        SettingsError: A device is not here, or is named twice.
    """
    devices = tuple(choose_device(name) for name in names.split(","))
    if len(set(devices)) < len(devices):
        raise SettingsError(
            f"Devices {names!r}: one is named twice. Use `--workers` for videos side by side."
        )
    return devices


def videos_at_once(device: torch.device) -> int:
    """How many videos keep a device busy: on a GPU more than one, as far as cores and its memory go.

    An H200 beside 16 cores makes 580 I3D windows a second of one 720p video at a time, and 1,500 of four.
    """
    if device.type != "cuda":
        return 1
    memory = torch.cuda.get_device_properties(device).total_memory
    return max(1, min(4, (os.cpu_count() or 1) // 4, memory // _VIDEO_BYTES))


def check_precision(precision: Precision, *, device: torch.device) -> None:
    """Refuse arithmetic that a device does not have; say where it is slow.

    Raises:
        SettingsError: float16 is asked of a CPU.
    """
    if device.type != "cpu" or precision == "float32":
        return
    if precision == "float16":
        raise SettingsError("float16 features are made on a GPU only. Use precision=bfloat16 or float32.")
    if not cpu_has_bf16():
        _warn_slow_bf16()


def cpu_has_bf16() -> bool:
    """Whether the CPU multiplies bfloat16 itself: AMX, AVX512-BF16 or ARM's BF16; unknown counts as no."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False
    lines = (line for line in text.splitlines() if line.startswith(("flags", "Features")))
    return bool(_BF16_FLAGS & set(next(lines, "").split()))


@lru_cache(maxsize=1)
def _warn_slow_bf16() -> None:
    log.warning(
        "This CPU has no bfloat16 instructions: what is computed in bfloat16 is right but slower than in float32."
    )


def places_on(device: torch.device, places: NDArray[Any]) -> Tensor:
    """Indices or a mask on a device, without waiting for what the device is at work on."""
    return torch.from_numpy(places).to(device, non_blocking=True)


class Download:
    """Features (n, D) on their way from a device; a copy to the host that was begun and is waited for when read."""

    def __init__(self, features: Tensor) -> None:
        self._done: torch.cuda.Event | None = None
        if features.device.type != "cuda":
            self._rows = features.cpu()
            return
        self._rows = torch.empty(features.shape, dtype=features.dtype, pin_memory=True)
        self._rows.copy_(features, non_blocking=True)
        self._done = torch.cuda.Event()  # type: ignore[no-untyped-call]
        self._done.record(torch.cuda.current_stream(features.device))

    def rows(self) -> NDArray[np.float32]:
        """The features, as soon as they are here."""
        if self._done is not None:
            self._done.synchronize()
        rows: NDArray[np.float32] = self._rows.numpy()
        return rows


@contextmanager
def deterministic_algorithms(wanted: bool) -> Iterator[None]:  # noqa: FBT001 - reads as the condition it is
    """Only algorithms that give the same bits every time, where ``wanted``, while the block runs."""
    if not wanted:
        yield
        return
    before = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    # cuBLAS reads this when it first multiplies; without it torch refuses to multiply at all.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(mode=True)
    torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(mode=before[0])
        torch.backends.cudnn.benchmark = before[1]
