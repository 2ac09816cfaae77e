"""When the frames of a video are shown: by its packets, without decoding it."""

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import CorruptVideoError
from pipeline.heartbeat import beat
from pipeline.video import corrupt_after, open_pyav

log = logging.getLogger(__name__)

MAX_MISSING_SECONDS = 0.5
"""A stream that ends this much before the length its header promises was cut short."""

_INDEX_DISCARD = 2  # AVINDEX_DISCARD_FRAME: left out by an edit list
_ASSUMED_RATE = 25  # frames/s of a single picture that names no rate; nothing but its length depends on it


@dataclass(frozen=True, kw_only=True, slots=True)
class FrameTiming:
    """When frames are shown, and which of them a decoder can start at."""

    times: NDArray[np.float64]
    duration: float
    key_frames: tuple[int, ...]
    """Display indices of key frames."""
    stamps: tuple[int, ...] | None
    """Presentation time stamps in display order, in the stream's time base; None where packets carry none."""


def frame_timing(path: Path, container: Any, stream: Any) -> FrameTiming:  # noqa: ANN401
    """Presentation times of the displayed frames, by demuxing.

    Packets that an edit list discards, and those of hidden reference frames, are decoded but never shown, so
    they do not count.

    Raises:
        CorruptVideoError: There are no pictures, or fewer than the header promises.
    """
    packets = _shown_packets(container, stream)
    intact = sum(not packet.corrupt for packet in packets)
    listed = _listed_frames(stream, container.format.name)
    # The sample table of an MP4 cannot be wrong about a few frames; the header of an AVI can.
    slack = 0 if container.format.name.startswith("mov") else MAX_MISSING_SECONDS * _nominal_rate(stream)
    if intact < max(listed - slack, len(packets)):
        raise corrupt_after(path, intact, max(listed, len(packets)))
    if not packets:
        raise CorruptVideoError(
            f"{path}: holds no pictures, only a header. Replace it by an intact copy, or leave it out."
        )
    stamps = [packet.pts for packet in packets if packet.pts is not None]
    if len(set(stamps)) < len(packets) or listed not in {0, len(packets)}:
        return _decoded_timing(path, stream)
    order = np.argsort(np.asarray(stamps, dtype=np.int64), kind="stable")
    timing = _from_stamps([stamps[i] for i in order], stream, last=packets[order[-1]].duration)
    key_frames = tuple(shown for shown, packet in enumerate(order.tolist()) if packets[packet].key)
    missing_seconds = _promised_end(stream) - float(min(stamps) * stream.time_base) - timing.duration
    if missing_seconds > MAX_MISSING_SECONDS:
        raise corrupt_after(path, intact, intact + round(missing_seconds * intact / timing.duration))
    if not packets[0].key:
        # Pictures that refer to what is not there may be left out by the decoder.
        return _decoded_timing(path, stream)
    return replace(timing, key_frames=key_frames)


class _Packet(NamedTuple):
    """What is kept of a packet: its pictures would fill the memory."""

    pts: int | None
    duration: int | None
    key: bool
    corrupt: bool


def _shown_packets(container: Any, stream: Any) -> list[_Packet]:  # noqa: ANN401
    codec = stream.codec_context.name
    shown = []
    for packet in container.demux(stream):
        beat()
        if packet.size and _is_shown(packet, codec=codec):
            shown.append(_Packet(packet.pts, packet.duration, packet.is_keyframe, packet.is_corrupt))
    return shown


def _is_shown(packet: Any, *, codec: str) -> bool:  # noqa: ANN401
    # Bit 4 of VP8's frame tag is show_frame (RFC 6386, section 9.1).
    hidden = codec == "vp8" and not bytes(packet)[0] & 0x10
    return not hidden and not packet.is_discard


def _listed_frames(stream: Any, container: str) -> int:  # noqa: ANN401
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


def _from_stamps(stamps: Sequence[int], stream: Any, *, last: int | None) -> FrameTiming:  # noqa: ANN401
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
    return FrameTiming(times=times, duration=float(times[-1]) + tail, key_frames=(0,), stamps=tuple(stamps))


def _nominal_rate(stream: Any) -> float:  # noqa: ANN401
    return float(stream.average_rate or stream.guessed_rate or _ASSUMED_RATE)


def _decoded_timing(path: Path, stream: Any) -> FrameTiming:  # noqa: ANN401
    """Timing of a stream whose packets do not say what is shown when: its frames are decoded once."""
    with open_pyav(path) as container:
        source = container.streams[stream.index]
        source.thread_type = "AUTO"
        stamps = []
        for frame in container.decode(source):
            beat()
            stamps.append(frame.pts)
    return timing_of_stamps(path, stream, stamps)


def timing_of_stamps(path: Path, stream: Any, stamps: Sequence[int | None]) -> FrameTiming:  # noqa: ANN401
    """Timing of frames with these presentation time stamps, as a decoder gave them.

    Raises:
        CorruptVideoError: There are none.
    """
    if not stamps:
        raise CorruptVideoError(
            f"{path}: no picture can be decoded. Replace it by an intact copy, or leave it out."
        )
    known = [stamp for stamp in stamps if stamp is not None]
    if len(known) == len(stamps) and (np.diff(np.asarray(known, dtype=np.int64)) > 0).all():
        return _from_stamps(known, stream, last=None)
    rate = _nominal_rate(stream)
    log.warning(
        "%s: carries no usable time stamps; times follow its nominal rate of %g frames/s.", path, rate
    )
    times = np.arange(len(stamps)) / rate
    return FrameTiming(times=times, duration=len(stamps) / rate, key_frames=(0,), stamps=None)
