"""How busy a GPU was, by a trace of what ran on it.

Not by nvidia-smi: asked five times a second, it took a fifth off what was measured.
"""

import json
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile


def busy_shares(call: Callable[[], None]) -> dict[str, float]:
    """Shares, 0 to 1, of the middle half of a call in which kernels ran, and kernels or copies, on any GPU."""
    with profile(activities=[ProfilerActivity.CUDA]) as trace:
        call()
        torch.cuda.synchronize()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        trace.export_chrome_trace(str(path))
        return shares_of(json.loads(path.read_text(encoding="utf-8")))


def shares_of(trace: dict[str, list[dict[str, Any]]]) -> dict[str, float]:
    """The same of a Chrome trace as torch's profiler writes it, whose times are microseconds.

    >>> kernel, copy = {"cat": "kernel", "dur": 10}, {"cat": "gpu_memcpy", "dur": 20}
    >>> shares_of({"traceEvents": [{**kernel, "ts": 0}, {**kernel, "ts": 30}, {**copy, "ts": 10}, {"cat": "cpu_op"}]})
    {'kernels_busy': 0.0, 'kernels_or_copies_busy': 1.0}
    """
    kernels, copies = (
        [
            (event["ts"], event["ts"] + event["dur"])
            for event in trace["traceEvents"]
            if event.get("cat") in kinds
        ]
        for kinds in ({"kernel"}, {"gpu_memcpy", "gpu_memset"})
    )
    start, stop = min(begin for begin, _ in kernels), max(end for _, end in kernels)
    middle = (3 * start + stop) / 4, (start + 3 * stop) / 4
    return {
        "kernels_busy": covered(kernels, within=middle),
        "kernels_or_copies_busy": covered(kernels + copies, within=middle),
    }


def covered(spans: Iterable[tuple[float, float]], *, within: tuple[float, float]) -> float:
    """The share of a stretch of time that spans, which may overlap, cover.

    >>> covered([(0, 2), (1, 3), (5, 9)], within=(1, 6))
    0.6
    """
    start, stop = within
    total, reached = 0.0, start
    for begin, end in sorted(spans):
        counted = min(end, stop) - max(begin, reached)
        if counted > 0:
            total += counted
            reached = min(end, stop)
    return total / (stop - start)
