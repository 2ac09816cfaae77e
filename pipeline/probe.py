"""Facts of a video without decoding it all: size, true time stamps, which decoder reads it right."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import av
import numpy as np
from av.stream import Disposition
from numpy.typing import NDArray

from pipeline.decode_rules import OnCorrupt
from pipeline.decoder_check import decord_agrees
from pipeline.errors import CorruptVideoError, NotAVideoError, VideoError
from pipeline.frame_timing import FrameTiming, frame_timing, timing_of_stamps
from pipeline.sniff import is_encrypted, is_text
from pipeline.video import decodable_stamps, open_pyav, quarter_turns

log = logging.getLogger(__name__)

DecoderName = Literal["decord", "pyav"]

_EVEN_SECONDS = 0.002
"""Up to so much the spaces between frames of one rate differ: many containers count in milliseconds."""

PROBE_VERSION = 2
"""Version of what probing finds out and of how it chooses a decoder."""


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
    promised_frames: int
    """Frames that the video should have; more than ``num_frames`` where only the part before damage is taken."""

    @property
    def has_variable_rate(self) -> bool:
        """Whether frames are unevenly spaced by their time stamps, beyond the rounding of containers."""
        spaces = np.diff(self.frame_times)
        return bool(spaces.size and np.ptp(spaces) > _EVEN_SECONDS)

    @property
    def is_cut(self) -> bool:
        """Whether the video is damaged and only the part before is taken."""
        return self.num_frames < self.promised_frames

    @property
    def reading(self) -> str:
        """What decides which pictures are read, as part of a key."""
        return f"{self.decoder}, first {self.num_frames} frames" if self.is_cut else self.decoder


def probe_video(path: Path, decoder: DecoderName | None = None, on_corrupt: OnCorrupt = "fail") -> VideoFacts:
    """Facts of a video, from its packets and a few decoded frames.

    Args:
        path: A file.
        decoder: Insist on a decoder instead of choosing: decord where it is installed and agrees with PyAV.
        on_corrupt: ``keep-decodable`` decodes the video once to find the frames before its first damage.

    Raises:
        NotAVideoError: The content is no video: text, audio only, a still picture, empty, unknown.
        CorruptVideoError: It is a video, but it holds no pictures or fewer than its header promises.
        VideoError: It is missing, a folder, unreadable or encrypted.
    """
    size_bytes = check_file(path)
    try:
        with open_pyav(path) as container:
            stream, num_streams = _choose_stream(path, container)
            timing, promised = _timing(path, container, stream, on_corrupt=on_corrupt)
            name, codec = container.format.name, stream.codec_context.name
            index, aspect = stream.index, float(stream.sample_aspect_ratio or 1)
        with open_pyav(path) as container:
            frame = _first_frame(path, container, index)
    except (av.FFmpegError, EOFError) as error:
        raise _unreadable(path, error) from error
    turns = quarter_turns(frame)
    on_side = turns % 2 == 1
    if len(timing.times) < promised:
        decoder = "pyav"
    elif decoder is None:
        agreed = decord_agrees(path, frame, num_streams=num_streams, stream_index=index, timing=timing)
        decoder = "decord" if agreed else "pyav"
    return VideoFacts(
        container=name,
        codec=codec,
        width=frame.height if on_side else frame.width,
        height=frame.width if on_side else frame.height,
        rotation=90 * turns,
        pixel_aspect=1 / aspect if on_side else aspect,
        fps=len(timing.times) / timing.duration,
        num_frames=len(timing.times),
        duration=timing.duration,
        frame_times=timing.times,
        video_streams=num_streams,
        stream_index=index,
        decoder=decoder,
        size_bytes=size_bytes,
        promised_frames=promised,
    )


def _timing(path: Path, container: Any, stream: Any, *, on_corrupt: OnCorrupt) -> tuple[FrameTiming, int]:  # noqa: ANN401
    """When the frames that are taken are shown, and how many there should be."""
    if on_corrupt == "fail":
        timing = frame_timing(path, container, stream)
        return timing, len(timing.times)
    damage: CorruptVideoError | None = None
    promised = 0
    try:
        timing = frame_timing(path, container, stream)
        promised = len(timing.times)
    except CorruptVideoError as error:
        damage, promised = error, error.promised
    stamps = decodable_stamps(path, stream.index)
    if damage is None and len(stamps) == promised:
        return timing, promised
    if damage is not None and not stamps:
        raise damage
    if len(stamps) < promised:
        log.warning(
            "%s: corrupt after frame %d of %d; the part before is taken.", path, len(stamps), promised
        )
    return timing_of_stamps(path, stream, stamps), max(promised, len(stamps))


def check_file(path: Path) -> int:
    """Size of the file, after the faults that need no decoder to see.

    Raises:
        NotAVideoError: It is a folder, no regular file, empty, or text.
        VideoError: It is missing, unreadable or encrypted.
    """
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
