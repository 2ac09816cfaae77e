"""Whether decord may be trusted with a video: the same count and the same pictures as PyAV."""

import importlib.util
import logging
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.frame_timing import FrameTiming
from pipeline.video import RgbConverter, is_untagged_high_definition, open_decord, open_pyav

log = logging.getLogger(__name__)

MAX_DECODER_DIFFERENCE = 0.25
"""Mean absolute difference, in 8-bit levels, up to which two decoders are held to agree.

Measured on 35 videos: 0.0 wherever decord is right; 0.3 and more for a wrong matrix, depth or range.
"""


MAX_DECORD_BYTES = 512 << 20
"""Decoded pictures of a video up to which decord may read it.

It decodes ahead of a slow reader without bound: measured, 3.3 GiB for 600 pictures of 1080p.
"""


def decord_agrees(
    path: Path,
    first: Any,  # noqa: ANN401
    *,
    num_streams: int,
    stream_index: int,
    timing: FrameTiming,
) -> bool:
    """Whether decord is here and gives the same frame count and the same pictures as PyAV on a few frames.

    Why not is a line in the log.

    Args:
        path: The video.
        first: Its first frame, decoded by PyAV.
        num_streams: Its video streams; decord is trusted with one only.
        stream_index: The stream that is taken.
        timing: When its frames are shown.
    """
    reason = _reason_against(path, first, num_streams=num_streams, stream_index=stream_index, timing=timing)
    if reason is not None:
        log.info("%s: PyAV decodes it, because %s.", path, reason)
    return reason is None


def _reason_against(
    path: Path,
    first: Any,  # noqa: ANN401
    *,
    num_streams: int,
    stream_index: int,
    timing: FrameTiming,
) -> str | None:
    if importlib.util.find_spec("decord") is None:
        return "decord is not installed"
    if num_streams > 1:
        return f"it has {num_streams} video streams"
    # decord knows BT.601 only for untagged pictures; a grey sample would hide that from the comparison.
    if is_untagged_high_definition(first):
        return "its untagged high definition is BT.709, and decord knows BT.601 only"
    if first.width * first.height * 3 * len(timing.times) > MAX_DECORD_BYTES:
        return "decord would hold all its pictures"
    difference = _decord_difference(path, first, stream_index=stream_index, timing=timing)
    return None if difference is None else f"decord {difference}"


def _decord_difference(path: Path, first: Any, *, stream_index: int, timing: FrameTiming) -> str | None:  # noqa: ANN401
    """How decord differs from PyAV on the first frame and the key frames in the middle and at the end."""
    import decord

    keys = timing.key_frames
    sample = sorted({0, keys[len(keys) // 2], keys[-1]} if timing.stamps else {0})
    try:
        reader = open_decord(path)
        if len(reader) != len(timing.times):
            return f"counts {len(reader)} frames instead of {len(timing.times)}"
        pictures = reader.get_batch(sample).asnumpy()
    except (decord.DECORDError, RuntimeError) as error:
        return f"fails ({str(error).splitlines()[0][:120]})"
    convert = RgbConverter()
    for index, picture in zip(sample, pictures, strict=True):
        frame = first if index == 0 else _frame_at(path, stream_index, timing, index)
        if frame is None:
            return f"cannot be checked at frame {index}"
        expected = convert(frame)
        if picture.shape != expected.shape:
            return f"gives pictures of shape {picture.shape} instead of {expected.shape}"
        difference = float(np.abs(picture.astype(np.int16) - expected).mean())
        if difference > MAX_DECODER_DIFFERENCE:
            return f"differs by {difference:.2f} levels at frame {index}"
    return None


def _frame_at(path: Path, stream_index: int, timing: FrameTiming, index: int) -> Any:  # noqa: ANN401
    """The frame shown at a display index, by seeking with PyAV; None if it is not met after seeking."""
    stamps = timing.stamps or ()
    with open_pyav(path) as container:
        stream = container.streams[stream_index]
        container.seek(stamps[index], stream=stream)
        for frame in container.decode(stream):
            if frame.pts is None or frame.pts > stamps[index]:
                return None
            if frame.pts == stamps[index]:
                return frame
    return None
