"""How many threads PyAV decodes with: tried out on the first long video of each kind, then remembered.

The best count depends on codec, size, machine and whatever else runs there, so no rule replaces a trial.
"""

import itertools
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import numpy as np

from pipeline.heartbeat import beat
from pipeline.video import RgbConverter, open_pyav

if TYPE_CHECKING:
    from pipeline.probe import VideoFacts

TRIAL_FRAMES = 32
"""Frames that each count of threads gets to show what it can."""

MIN_FRAMES = 1000
"""A shorter video is done before a trial pays off; FFmpeg's own choice will do."""

AUTOMATIC = 0

_best: dict[tuple[str, int, int], int] = {}


def decoder_threads(path: Path, facts: "VideoFacts") -> int:
    """Threads to decode a video with; ``AUTOMATIC`` leaves the choice to FFmpeg."""
    kind = (facts.codec, facts.width, facts.height)
    if kind not in _best and facts.num_frames >= MIN_FRAMES:
        try:
            rates = {threads: _rate(path, facts, threads) for threads in _candidates(os.cpu_count() or 1)}
        except av.FFmpegError:
            # Damaged near its start: reading it will say so.
            return AUTOMATIC
        _best[kind] = max(rates, key=lambda threads: rates[threads])
    return _best.get(kind, AUTOMATIC)


def _candidates(cores: int) -> list[int]:
    """Counts worth a trial: none, some and all of the cores.

    >>> _candidates(1), _candidates(2), _candidates(16)
    ([1], [1, 2], [1, 4, 8, 16])
    """
    return sorted({1, max(1, cores // 4), max(1, cores // 2), min(cores, 16)})


def _rate(path: Path, facts: "VideoFacts", threads: int) -> float:
    """Frames per second of decoding and converting the first frames."""
    convert = RgbConverter()
    picture = np.empty((facts.height, facts.width, 3), np.uint8)
    start = time.perf_counter()
    with open_pyav(path) as container:
        stream: Any = container.streams[facts.stream_index]
        stream.codec_context.thread_count = threads
        stream.thread_type = "AUTO"
        for frame in itertools.islice(container.decode(stream), TRIAL_FRAMES):
            beat()
            convert(frame, out=picture)
    return TRIAL_FRAMES / (time.perf_counter() - start)
