"""Facts of a video without decoding it all: size, true time stamps, which decoder reads it right."""

import importlib.util
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import av
import numpy as np
from av.stream import Disposition
from numpy.typing import NDArray

from pipeline.errors import CorruptVideoError, NotAVideoError, VideoError
from pipeline.sniff import is_encrypted, is_text
from pipeline.video import (
    RgbConverter,
    corrupt_after,
    is_untagged_high_definition,
    open_decord,
    open_pyav,
)

log = logging.getLogger(__name__)

DecoderName = Literal["decord", "pyav"]

PROBE_VERSION = 1
"""Version of what probing finds out and of how it chooses a decoder."""

MAX_DECODER_DIFFERENCE = 0.25
"""Mean absolute difference, in 8-bit levels, up to which two decoders are held to agree.

Measured on 35 videos: 0.0 wherever decord is right; 0.3 and more for a wrong matrix, depth or range.
"""

MAX_MISSING_SECONDS = 0.5
"""A stream that ends this much before the length its header promises was cut short."""

_INDEX_DISCARD = 2  # AVINDEX_DISCARD_FRAME: left out by an edit list
_ASSUMED_RATE = 25  # frames/s of a single picture that names no rate; nothing but its length depends on it


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class VideoFacts:
    """What probing found out about a readable video."""

    container: str
    """Name of the container format in FFmpeg."""
    codec: str
    """Name of the video codec in FFmpeg."""
    width: int
    """Pixels of an upright picture's row."""
    height: int
    """Rows of an upright picture."""
    rotation: int
    """0, 90, 180 or 270 degrees, anti-clockwise, that turned the stored pictures upright."""
    pixel_aspect: float
    """Width of a pixel over its height; recorded, never applied."""
    fps: float
    """Average rate: frames over duration."""
    num_frames: int
    """Frames that are displayed."""
    duration: float
    """Seconds from the first frame's start to the last frame's end."""
    frame_times: NDArray[np.float64]
    """(N,) seconds of each frame's start from the first frame's, by presentation time stamps."""
    video_streams: int
    """Video streams of the file; cover pictures are not counted."""
    stream_index: int
    """The stream taken: most pixels, then lowest index."""
    decoder: DecoderName
    """The library that reads these pictures right."""
    size_bytes: int
    """Size of the file."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Timing:
    """When frames are shown, and which of them a decoder can start at."""

    times: NDArray[np.float64]
    duration: float
    key_frames: tuple[int, ...]
    """Display indices of key frames."""
    stamps: tuple[int, ...] | None
    """Presentation time stamps in display order, in the stream's time base; None where packets carry none."""


def probe_video(path: Path, *, decoder: DecoderName | None = None) -> VideoFacts:
    """Facts of a video, from its packets and a few decoded frames.

    Args:
        path: A file.
        decoder: Insist on a decoder instead of choosing: decord where it is installed and agrees with PyAV.

    Raises:
        NotAVideoError: The content is no video: text, audio only, a still picture, empty, unknown.
        CorruptVideoError: It is a video, but it holds no pictures or fewer than its header promises.
        VideoError: It is missing, a folder, unreadable or encrypted.
    """
    size_bytes = _check_file(path)
    try:
        with open_pyav(path) as container:
            stream, num_streams = _choose_stream(path, container)
            timing = _timing(path, container, stream)
            name, codec = container.format.name, stream.codec_context.name
            index, aspect = stream.index, float(stream.sample_aspect_ratio or 1)
        with open_pyav(path) as container:
            frame = _first_frame(path, container, index)
    except (av.FFmpegError, EOFError) as error:
        raise _unreadable(path, error) from error
    on_side = frame.rotation % 180 == 90
    if decoder is None:
        agreed = num_streams == 1 and _decord_agrees(path, frame, stream_index=index, timing=timing)
        decoder = "decord" if agreed else "pyav"
    return VideoFacts(
        container=name,
        codec=codec,
        width=frame.height if on_side else frame.width,
        height=frame.width if on_side else frame.height,
        rotation=int(frame.rotation) % 360,
        pixel_aspect=1 / aspect if on_side else aspect,
        fps=len(timing.times) / timing.duration,
        num_frames=len(timing.times),
        duration=timing.duration,
        frame_times=timing.times,
        video_streams=num_streams,
        stream_index=index,
        decoder=decoder,
        size_bytes=size_bytes,
    )


def _check_file(path: Path) -> int:
    """Size of the file, after the faults that need no decoder to see."""
    if path.is_dir():
        raise NotAVideoError(
            f"{path}: is a folder, not a video. Give the files in it, or the folder to `factseg run`."
        )
    if not path.exists():
        raise VideoError(f"{path}: no such file. Check the path.")
    if not path.is_file():
        raise NotAVideoError(f"{path}: is no regular file. Copy the video to a file.")
    try:
        text, encrypted = is_text(path), is_encrypted(path)
    except OSError as error:
        raise VideoError(f"{path}: cannot be read ({error.strerror}). Check its permissions.") from error
    size_bytes = path.stat().st_size
    if size_bytes == 0:
        raise NotAVideoError(f"{path}: empty file. Replace it by an intact copy, or leave it out.")
    if text:
        raise NotAVideoError(f"{path}: not a video but text. Leave it out, or give the video it stands for.")
    if encrypted:
        raise VideoError(f"{path}: encrypted. Decrypt it first; there is no way to read it without its key.")
    return size_bytes


def _choose_stream(path: Path, container: Any) -> tuple[Any, int]:  # noqa: ANN401
    """The video stream with the most pixels, then the lowest index, and how many there are."""
    streams = [
        stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic
    ]
    if not streams:
        raise NotAVideoError(f"{path}: no video stream ({container.format.name}). Leave it out.")
    if container.format.name == "image2" or container.format.name.endswith("_pipe"):
        raise NotAVideoError(f"{path}: a still picture, not a video. Leave it out.")
    known = [stream for stream in streams if stream.codec_context is not None]
    if not known:
        raise VideoError(f"{path}: no decoder for its video codec. Re-encode it, for example as H.264.")
    best = max(known, key=lambda one: (one.codec_context.width * one.codec_context.height, -one.index))
    return best, len(streams)


def _timing(path: Path, container: Any, stream: Any) -> _Timing:  # noqa: ANN401
    """Presentation times of the displayed frames, by demuxing.

    Packets that an edit list discards are decoded but never shown, so they do not count.
    """
    packets = [packet for packet in container.demux(stream) if packet.size and not packet.is_discard]
    intact = sum(not packet.is_corrupt for packet in packets)
    promised = max(_promised_frames(stream, container.format.name), len(packets))
    if intact < promised:
        raise corrupt_after(path, intact, promised)
    if not packets:
        raise CorruptVideoError(
            f"{path}: holds no pictures, only a header. Replace it by an intact copy, or leave it out."
        )
    stamps = [packet.pts for packet in packets]
    if None in stamps or len(set(stamps)) < len(stamps):
        return _decoded_timing(path, stream)
    order = np.argsort(np.asarray(stamps, dtype=np.int64), kind="stable")
    timing = _from_stamps([stamps[i] for i in order], stream, last=packets[order[-1]].duration)
    key_frames = tuple(shown for shown, packet in enumerate(order.tolist()) if packets[packet].is_keyframe)
    missing_seconds = _promised_end(stream) - float(min(stamps) * stream.time_base) - timing.duration
    if missing_seconds > MAX_MISSING_SECONDS:
        raise corrupt_after(path, intact, intact + round(missing_seconds * intact / timing.duration))
    return replace(timing, key_frames=key_frames)


def _promised_frames(stream: Any, container: str) -> int:  # noqa: ANN401
    """Displayed frames that the header lists; 0 where it lists none.

    The sample count of an MP4 track includes what an edit list leaves out, its index does not.
    """
    if container.startswith("mov"):
        return sum(not entry.flags & _INDEX_DISCARD for entry in stream.index_entries)
    return int(stream.frames)


def _promised_end(stream: Any) -> float:  # noqa: ANN401
    """Time stamp, in seconds, at which a Matroska statistics tag ends the stream; 0 where there is none."""
    match = re.fullmatch(r"(\d+):(\d+):(\d+(?:\.\d+)?)", stream.metadata.get("DURATION", ""))
    if match is None:
        return 0.0
    hours, minutes, seconds = match.groups()
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds)


def _from_stamps(stamps: Sequence[int], stream: Any, *, last: int | None) -> _Timing:  # noqa: ANN401
    """Timing from presentation time stamps in display order; ``last`` is the last frame's length."""
    ticks = np.asarray(stamps, dtype=np.int64) - stamps[0]
    base = stream.time_base
    times = ticks * base.numerator / base.denominator
    if last:
        tail = float(last * base)
    elif len(times) > 1:
        tail = float(np.median(np.diff(times)))
    else:
        tail = 1 / _nominal_rate(stream)
    return _Timing(times=times, duration=float(times[-1]) + tail, key_frames=(0,), stamps=tuple(stamps))


def _nominal_rate(stream: Any) -> float:  # noqa: ANN401
    return float(stream.average_rate or stream.guessed_rate or _ASSUMED_RATE)


def _decoded_timing(path: Path, stream: Any) -> _Timing:  # noqa: ANN401
    """Timing of a stream whose packets do not say when they are shown: its frames are decoded once."""
    with open_pyav(path) as container:
        source = container.streams[stream.index]
        source.thread_type = "AUTO"
        stamps = [frame.pts for frame in container.decode(source)]
    if not stamps:
        raise CorruptVideoError(
            f"{path}: no picture can be decoded. Replace it by an intact copy, or leave it out."
        )
    if None not in stamps and (np.diff(np.asarray(stamps, dtype=np.int64)) > 0).all():
        return _from_stamps(stamps, stream, last=None)
    rate = _nominal_rate(stream)
    log.warning(
        "%s: carries no usable time stamps; times follow its nominal rate of %g frames/s.", path, rate
    )
    times = np.arange(len(stamps)) / rate
    return _Timing(times=times, duration=len(stamps) / rate, key_frames=(0,), stamps=None)


def _first_frame(path: Path, container: Any, stream_index: int) -> Any:  # noqa: ANN401
    for frame in container.decode(container.streams[stream_index]):
        return frame
    raise CorruptVideoError(
        f"{path}: no picture can be decoded. Replace it by an intact copy, or leave it out."
    )


def _unreadable(path: Path, error: Exception) -> VideoError:
    reason = getattr(error, "strerror", None) or str(error)
    return CorruptVideoError(
        f"{path}: not readable as a video ({reason}). "
        "It is cut short, damaged or of an unknown format; replace it by an intact copy, or leave it out."
    )


def _decord_agrees(path: Path, first: Any, *, stream_index: int, timing: _Timing) -> bool:  # noqa: ANN401
    """Whether decord is here and gives the same frame count and the same pictures as PyAV on a few frames."""
    if importlib.util.find_spec("decord") is None:
        return False
    # decord knows BT.601 only for untagged pictures; a grey sample would hide that from the comparison.
    if is_untagged_high_definition(first):
        log.info("%s: untagged high definition; PyAV decodes it, with BT.709.", path)
        return False
    reason = _decord_difference(path, first, stream_index=stream_index, timing=timing)
    if reason is not None:
        log.info("%s: PyAV decodes it, because decord %s.", path, reason)
    return reason is None


def _decord_difference(path: Path, first: Any, *, stream_index: int, timing: _Timing) -> str | None:  # noqa: ANN401
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


def _frame_at(path: Path, stream_index: int, timing: _Timing, index: int) -> Any:  # noqa: ANN401
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
