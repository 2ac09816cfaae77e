"""Optical flow between neighbouring pictures, as the I3D stream of the published features wants it."""

# Axes: N pictures, n fields, H rows, W columns.

import ctypes
import itertools
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.flow_stream import FlowMethod
from pipeline.preprocess import centre_crop, resize_and_crop, resized_size

if TYPE_CHECKING:
    from pipeline.raft import RaftEncoder

MAX_DISPLACEMENT = 20.0
"""Pixels per picture at which displacements are clipped."""

TVL1_BYTES_PER_PIXEL = 144
"""What a thread keeps for TV-L1 by pixel of a picture: measured, 138 from 720p to 1080p."""

_TVL1_BYTES = 1 << 30
"""Memory of all threads of TV-L1, half of what extraction may take above its models."""


def tvl1_threads(width: int, height: int, *, cores: int) -> int:
    """Threads that compute TV-L1 side by side: one a core, as long as what they keep fits into memory; at least one.

    Where they are fewer than the cores, OpenCV puts the others to work inside a field.

    >>> [tvl1_threads(*size, cores=16) for size in ((640, 480), (1280, 720), (1920, 1080), (7680, 4320))]
    [16, 8, 3, 1]
    """
    return max(1, min(cores, _TVL1_BYTES // (width * height * TVL1_BYTES_PER_PIXEL)))


def tvl1_method(workers: "FieldWorkers") -> FlowMethod:
    """TV-L1 (Zach, Pock and Bischof 2007; OpenCV's defaults) on grey pictures at native resolution.

    A field is resized like a picture without rescaling its values, clipped to +-20 and divided by 20.
    """
    return lambda frames: workers.map(_Tvl1, frames)


def dis_method(workers: "FieldWorkers") -> FlowMethod:
    """DIS (Kroeger et al. 2016; OpenCV's medium preset) on grey pictures with a short side of 256: fast on a CPU.

    Displacements are pixels of the small picture, clipped to +-20 and divided by 20.
    """
    return lambda frames: workers.map(_Dis, frames)


def raft_method(encoder: "RaftEncoder") -> FlowMethod:
    """RAFT (Teed and Deng 2020) on pictures with a short side of 256, quantised to 8 bits as published."""
    return lambda frames: quantised_input(encoder.fields(frames))


class FieldWorkers:
    """Threads that compute fields of OpenCV's methods side by side; each has a method object of its own."""

    def __init__(self, threads: int) -> None:
        # OpenCV lets go of Python's lock while it computes.
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="optical-flow")
        self._local = threading.local()

    def map(self, kind: "type[_Tvl1 | _Dis]", frames: NDArray[np.uint8]) -> Tensor:
        """Fields (n, 224, 224, 2) between neighbours of (n + 1, H, W, 3), as I3D wants them."""
        greys = [cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_RGB2GRAY) for frame in frames]
        made = self._pool.map(lambda pair: self._method(kind)(*pair), itertools.pairwise(greys))
        return torch.stack(list(made))

    def close(self) -> None:
        """Let the threads end, and the system have what they held."""
        self._pool.shutdown(cancel_futures=True)
        _return_memory()

    def _method(self, kind: "type[_Tvl1 | _Dis]") -> "_Tvl1 | _Dis":
        methods = self._local.__dict__.setdefault("methods", {})
        if kind not in methods:
            methods[kind] = kind()
        method: _Tvl1 | _Dis = methods[kind]
        return method


def _return_memory() -> None:
    """Return freed memory to the system, where the allocator can be asked to.

    It keeps what ended threads freed: without this the threads of the next video come on top of it.
    """
    if sys.platform == "linux" and hasattr(library := ctypes.CDLL(None), "malloc_trim"):
        library.malloc_trim(0)


class _Tvl1:
    def __init__(self) -> None:
        self._method = cv2.optflow.createOptFlow_DualTVL1()

    def __call__(self, first: NDArray[np.uint8], second: NDArray[np.uint8]) -> Tensor:
        field = torch.from_numpy(self._method.calc(first, second, None))
        return scaled_input(resize_and_crop(field[None]))[0]


class _Dis:
    def __init__(self) -> None:
        self._method = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)

    def __call__(self, first: NDArray[np.uint8], second: NDArray[np.uint8]) -> Tensor:
        field = torch.from_numpy(self._method.calc(_small(first), _small(second), None))
        return scaled_input(centre_crop(field[None]))[0]


def _small(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    rows, columns = resized_size(*grey.shape)
    shrinks = rows < grey.shape[0]
    return np.asarray(
        cv2.resize(grey, (columns, rows), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR),
        np.uint8,
    )


def scaled_input(fields: Tensor) -> Tensor:
    """Displacements clipped to +-20 pixels and divided by 20."""
    return fields.clamp(-MAX_DISPLACEMENT, MAX_DISPLACEMENT) / MAX_DISPLACEMENT


def quantised_input(fields: Tensor) -> Tensor:
    """Displacements clipped to +-20 pixels, quantised to 0..255 and scaled to [-1, 1].

    >>> quantised_input(torch.tensor([-30.0, 0.0, 30.0])).tolist()
    [-1.0, 0.003921627998352051, 1.0]
    """
    clipped = fields.clamp(-MAX_DISPLACEMENT, MAX_DISPLACEMENT)
    levels = (128 + clipped * (255 / (2 * MAX_DISPLACEMENT))).round().clamp(0, 255)
    return levels * (2 / 255) - 1
