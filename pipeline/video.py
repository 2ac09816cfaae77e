"""Pictures of a video in display order: upright, 8-bit RGB, from decord or PyAV with the same answers."""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import numpy as np
from av.video.reformatter import Colorspace, VideoReformatter
from numpy.typing import NDArray

from pipeline.errors import CorruptVideoError, VideoError

if TYPE_CHECKING:
    from pipeline.probe import VideoFacts

log = logging.getLogger(__name__)

_UNTAGGED_MATRIX = 2  # "unspecified" in ISO/IEC 23091-2
_HIGH_DEFINITION_LINES = 720


def read_frames(
    path: Path, facts: "VideoFacts", indices: Sequence[int] | None = None, batch_frames: int = 32
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.uint8]]]:
    """Pictures in batches, as (indices (n,), frames (n, H, W, 3) uint8 RGB).

    Args:
        path: The video.
        facts: What ``probe_video`` found; its decoder is used.
        indices: Frames wanted, strictly increasing; all of them if None.
        batch_frames: Most frames of a batch; at most one batch is held.

    Raises:
        CorruptVideoError: Fewer or more frames can be decoded than the video's index promises.
        VideoError: The decoder that probing chose fails where the other would not.
    """
    wanted = np.arange(facts.num_frames) if indices is None else np.asarray(indices, dtype=np.int64)
    if wanted.size and (wanted[0] < 0 or wanted[-1] >= facts.num_frames or (np.diff(wanted) <= 0).any()):
        raise ValueError(f"{path}: frame indices must increase strictly within [0, {facts.num_frames}).")
    read = _read_decord if facts.decoder == "decord" else _read_pyav
    return read(path, facts, wanted, batch_frames=batch_frames)


def _read_decord(
    path: Path, facts: "VideoFacts", wanted: NDArray[np.int64], *, batch_frames: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.uint8]]]:
    try:
        import decord
    except ImportError as error:
        raise VideoError(
            f"{path}: was probed with decord, which is not installed here. Probe it again, or install decord."
        ) from error
    try:
        reader = open_decord(path)
        for start in range(0, len(wanted), batch_frames):
            batch = wanted[start : start + batch_frames]
            yield batch, reader.get_batch(batch.tolist()).asnumpy()
    except decord.DECORDError as error:
        decodable = count_decodable_frames(path, facts)
        if decodable != facts.num_frames:
            raise corrupt_after(path, decodable, facts.num_frames) from error
        raise VideoError(
            f"{path}: decord fails on a frame that PyAV decodes. Probe the video with decoder 'pyav'."
        ) from error


def open_decord(path: Path) -> Any:  # noqa: ANN401  (decord ships no types)
    """A decord reader of the video that refuses to stand in one frame for another."""
    import decord

    decord.logging.set_level(decord.logging.QUIET)
    return decord.VideoReader(str(path.resolve()), ctx=decord.cpu(0), fault_tol=0)


def _read_pyav(
    path: Path, facts: "VideoFacts", wanted: NDArray[np.int64], *, batch_frames: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.uint8]]]:
    pictures: list[NDArray[np.uint8]] = []
    start = 0
    for picture in _pyav_pictures(path, facts, wanted):
        pictures.append(picture)
        if len(pictures) == batch_frames or start + len(pictures) == len(wanted):
            yield wanted[start : start + len(pictures)], np.stack(pictures)
            start += len(pictures)
            pictures = []


def _pyav_pictures(path: Path, facts: "VideoFacts", wanted: NDArray[np.int64]) -> Iterator[NDArray[np.uint8]]:
    """The wanted pictures one by one; if the last frame is wanted, nothing may follow it."""
    convert = RgbConverter()
    needed = iter(wanted.tolist())
    target = next(needed, None)
    decoded = 0
    with open_pyav(path) as container:
        stream = container.streams[facts.stream_index]
        stream.thread_type = "AUTO"
        try:
            for frame in container.decode(stream):
                if decoded == facts.num_frames:
                    raise CorruptVideoError(
                        f"{path}: decodes to more frames than the {decoded} its index promises. "
                        "Re-encode it, or leave it out."
                    )
                if decoded == target:
                    yield convert(frame)
                    target = next(needed, None)
                decoded += 1
                if target is None and decoded < facts.num_frames:
                    return
        except av.FFmpegError as error:
            raise corrupt_after(path, count_decodable_frames(path, facts), facts.num_frames) from error
    if decoded < facts.num_frames:
        raise corrupt_after(path, decoded, facts.num_frames)


def open_pyav(path: Path) -> Any:  # noqa: ANN401
    """A PyAV container of a local file, whatever its name looks like."""
    # The prefix keeps names such as `concat:a|b` or `-` from being read as protocols or options.
    return av.open(f"file:{path.resolve()}", mode="r", metadata_errors="replace")


def count_decodable_frames(path: Path, facts: "VideoFacts") -> int:
    """Frames PyAV decodes, in one thread, before its first error or the end."""
    count = 0
    with open_pyav(path) as container:
        stream = container.streams[facts.stream_index]
        # Frame threads lose finished frames when a later one fails; the count must not depend on that.
        stream.codec_context.thread_count = 1
        try:
            for _ in container.decode(stream):
                count += 1
        except av.FFmpegError as error:
            log.info("%s: decoding stopped after frame %d: %s", path, count, error)
    return count


def corrupt_after(path: Path, decodable: int, promised: int) -> CorruptVideoError:
    """The error for a video that ends, or breaks, before its promised end."""
    return CorruptVideoError(
        f"{path}: corrupt after frame {decodable} of {promised}. "
        "Replace it by an intact copy, or leave it out."
    )


class RgbConverter:
    """Turns decoded frames of one video into upright 8-bit RGB of one size.

    Matrix and range are taken as tagged; untagged pictures are BT.601 below 720 lines, else BT.709.
    A rotation is rounded to quarter turns.
    """

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()
        self._size: tuple[int, int] | None = None

    def __call__(self, frame: Any) -> NDArray[np.uint8]:  # noqa: ANN401
        """(H, W, 3) uint8. A frame of another size than the first is scaled to it."""
        self._size = self._size or (frame.width, frame.height)
        assume_bt709 = is_untagged_high_definition(frame)
        rgb = self._reformatter.reformat(
            frame,
            width=self._size[0],
            height=self._size[1],
            format="rgb24",
            src_colorspace=Colorspace.ITU709 if assume_bt709 else None,
        ).to_ndarray()
        upright: NDArray[np.uint8] = np.rot90(rgb, round(frame.rotation / 90))
        return upright


def is_untagged_high_definition(frame: Any) -> bool:  # noqa: ANN401
    """Whether a YUV frame names no matrix and has 720 lines or more, so that BT.709 is assumed."""
    return int(frame.colorspace) == _UNTAGGED_MATRIX and frame.height >= _HIGH_DEFINITION_LINES
