"""What the benchmarks of the model share: clocks, ceilings, peak memory, and lines of JSON."""

import json
import platform
import resource
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from fact.blocks import FACT
from fact.heads import ClassHead
from fact.precision import Precision, computing_in

MIB = 2**20
SETTLED_SEGMENTS = 64
"""Predicted segments of a video after the first epochs; an untrained model predicts many more."""


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Wall-clock times of repeated calls, in milliseconds, and the matrix products timed between them."""

    times: list[float]
    cpu_times: list[float]
    """Milliseconds that all threads of this process computed: on a shared host these say more."""
    ceiling: float
    """FLOP/s of the fastest matrix product seen."""
    cpu_ceiling: float
    """FLOP per second of processor time of the fastest matrix product seen."""

    @property
    def median(self) -> float:
        """The middle time."""
        return statistics.median(self.times)


class SettledHead(ClassHead):
    """A head that cuts every video into 64 runs of classes, whatever it computes.

    Random weights predict a segment every few steps; a model that has seen a few epochs does not. The argmax is
    still taken, so nothing is left out of the time.
    """

    def classes(self, features_BXH: Tensor) -> Tensor:
        """Class of each step, (B, T)."""
        found_BT = super().classes(features_BXH)
        num_steps = found_BT.shape[1]
        steps_T = torch.arange(num_steps, device=found_BT.device)
        return found_BT * 0 + steps_T * SETTLED_SEGMENTS // num_steps % self.num_classes


def settle(model: FACT) -> None:
    """Make a model predict :data:`SETTLED_SEGMENTS` segments per video in all its blocks."""
    for block in model.block_list:
        block.head = SettledHead(model.num_classes, hidden_dim=model.config.input_block.hidden_dim)


def synchronize(device: torch.device) -> None:
    """Wait for all that was started on the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def count_flops(call: Callable[[], object]) -> int:
    """Floating-point operations of one call by torch's counter (matrix products, attention, convolutions)."""
    with FlopCounterMode(display=False) as counter:
        call()
    return int(counter.get_total_flops())


def timed(call: Callable[[], object], *, device: torch.device, precision: Precision, repeats: int) -> Timing:
    """Time a call that has been warmed up, with a matrix product before each: the host may be shared."""
    product, flops = _matrix_product(device, precision)
    calls, products = [], []
    for _ in range(repeats):
        products.append(_clocks(product, device))
        calls.append(_clocks(call, device))
    return Timing(
        times=[1e3 * wall for wall, _ in calls],
        cpu_times=[1e3 * cpu for _, cpu in calls],
        ceiling=flops / min(wall for wall, _ in products),
        cpu_ceiling=flops / min(cpu for _, cpu in products),
    )


def _clocks(call: Callable[[], object], device: torch.device) -> tuple[float, float]:
    """Seconds of wall clock and of processor time that a call took."""
    synchronize(device)
    wall, cpu = time.perf_counter(), time.process_time()
    call()
    synchronize(device)
    return time.perf_counter() - wall, time.process_time() - cpu


def _matrix_product(device: torch.device, precision: Precision) -> tuple[Callable[[], None], int]:
    """A function that multiplies two large square matrices several times, and the operations it does."""
    size, calls = (8192, 5) if device.type == "cuda" else (1024, 4)
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    a = torch.randn(size, size, device=device, dtype=dtype)
    out = a @ a

    def multiply() -> None:
        for _ in range(calls):
            torch.mm(a, a, out=out)

    return multiply, calls * 2 * size**3


@contextmanager
def precise(precision: Precision, device: torch.device) -> Iterator[None]:
    """As :func:`fact.precision.computing_in`, with the memory peak set back first."""
    reset_peak(device)
    with computing_in(precision, device):
        yield


def reset_peak(device: torch.device) -> None:
    """Start a new peak of memory."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif Path("/proc/self/clear_refs").exists():
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak_mib(device: torch.device) -> int:
    """Peak since :func:`reset_peak`: allocated on a GPU, resident on a CPU (where Linux tells; else ever)."""
    if device.type == "cuda":
        return round(torch.cuda.max_memory_allocated(device) / MIB)
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return round(int(line.split()[1]) / 1024)
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def describe(device: torch.device) -> dict[str, object]:
    """The machine in a few words."""
    if device.type == "cuda":
        return {"device": torch.cuda.get_device_name(device), "torch": torch.__version__}
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = info.read_text(encoding="utf-8").splitlines()
        name = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), name)
    return {"device": f"CPU {name}, {torch.get_num_threads()} threads", "torch": torch.__version__}


def speed(timing: Timing, flops: int) -> dict[str, object]:
    """Times and rates as they are printed."""
    return {
        "median_ms": round(timing.median, 2),
        "fastest_ms": round(min(timing.times), 2),
        "tflop": round(flops / 1e12, 4),
        "tflop_per_s": round(flops / timing.median / 1e9, 3),
        "matmul_tflop_per_s": round(timing.ceiling / 1e12, 3),
        "fraction_of_matmul": round(flops / timing.median / 1e-3 / timing.ceiling, 3),
        "median_cpu_ms": round(statistics.median(timing.cpu_times), 2),
        "fraction_by_cpu_time": round(flops / min(timing.cpu_times) / 1e-3 / timing.cpu_ceiling, 3),
    }


def emit(**values: object) -> None:
    """One JSON line on standard output, at once."""
    print(json.dumps(values), flush=True)
