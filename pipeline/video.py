"""Pictures of a video in display order: upright, 8-bit RGB, from decord or PyAV with the same answers."""

import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import numpy as np
from av.video.reformatter import Colorspace, VideoReformatter
from numpy.typing import NDArray

from pipeline.errors import CorruptVideoError, DecoderError
from pipeline.heartbeat import beat

if TYPE_CHECKING:
    from pipeline.probe import VideoFacts

log = logging.getLogger(__name__)

_UNTAGGED_MATRIX = 2  # "unspecified" in ISO/IEC 23091-2
_HIGH_DEFINITION_LINES = 720
_OPEN_OPTIONS: dict[str, Any] = (
    {} if int(av.__version__.split(".")[0]) > 18 else {"metadata_errors": "replace"}
)
"""PyAV 18 refuses a file whose title is not UTF-8 unless told otherwise; PyAV 19 takes it, and not the option."""

Allocate = Callable[[int], NDArray[np.uint8]]
"""Gives memory for a batch of so many pictures, (n, H, W, 3)."""

Batches = Iterator[tuple[NDArray[np.int64], NDArray[np.uint8]]]


def read_frames(
    path: Path,
    facts: "VideoFacts",
    indices: Sequence[int] | NDArray[np.int64] | None = None,
    batch_frames: int = 32,
    allocate: Allocate | None = None,
) -> Batches:
    """Pictures in batches, as (indices (n,), frames (n, H, W, 3) uint8 RGB).

    Args:
        path: The video.
        facts: What ``probe_video`` found; its decoder is used.
        indices: Frames wanted, strictly increasing; all of them if None.
        batch_frames: Most frames of a batch; at most one batch is held.
        allocate: Where a batch's pictures go; new memory unless given.

    Raises:
        CorruptVideoError: Fewer or more frames can be decoded than the video's index promises.
        DecoderError: decord, which probing chose, is not here or fails where PyAV would not.
    """
    wanted = check_indices(path, facts, indices)
    allocate = allocate or (lambda count: np.empty((count, facts.height, facts.width, 3), np.uint8))
    read = _read_decord if facts.decoder == "decord" else _read_pyav
    return read(path, facts, wanted, batch_frames=batch_frames, allocate=allocate)


def check_indices(
    path: Path, facts: "VideoFacts", indices: Sequence[int] | NDArray[np.int64] | None
) -> NDArray[np.int64]:
    """(n,) the frames wanted; all of them if None.

    Raises:
        ValueError: They do not increase strictly within the video.
    """
    wanted = np.arange(facts.num_frames) if indices is None else np.asarray(indices, dtype=np.int64)
    if wanted.size and (wanted[0] < 0 or wanted[-1] >= facts.num_frames or (np.diff(wanted) <= 0).any()):
        raise ValueError(f"{path}: frame indices must increase strictly within [0, {facts.num_frames}).")
    return wanted


def _read_decord(
    path: Path, facts: "VideoFacts", wanted: NDArray[np.int64], *, batch_frames: int, allocate: Allocate
) -> Batches:
    try:
        import decord
    except ImportError as error:
        raise DecoderError.on(path, "decord, which was chosen for it, is not installed here") from error
    try:
        reader = open_decord(path)
        for start in range(0, len(wanted), batch_frames):
            batch = wanted[start : start + batch_frames]
            pictures = allocate(len(batch))
            pictures[:] = reader.get_batch(batch.tolist()).asnumpy()
            yield batch, pictures
            # Held on to, the memory could not be filled anew.
            del pictures
    except (decord.DECORDError, RuntimeError) as error:
        decodable = len(decodable_stamps(path, facts.stream_index))
        if decodable != facts.num_frames:
            raise corrupt_after(path, decodable, facts.num_frames) from error
        reason = " ".join(str(error).split())[:120]
        raise DecoderError.on(path, f"decord fails on a frame that PyAV decodes ({reason})") from error


def open_decord(path: Path) -> Any:  # noqa: ANN401  (decord ships no types)
    """A decord reader of the video that refuses to stand in one frame for another."""
    import decord

    decord.logging.set_level(decord.logging.QUIET)
    return decord.VideoReader(str(path.resolve()), ctx=decord.cpu(0), fault_tol=0)


def _read_pyav(
    path: Path, facts: "VideoFacts", wanted: NDArray[np.int64], *, batch_frames: int, allocate: Allocate
) -> Batches:
    convert = RgbConverter()
    decoded = _decoded_frames(path, facts, wanted)
    for start in range(0, len(wanted), batch_frames):
        batch = wanted[start : start + batch_frames]
        pictures = allocate(len(batch))
        for picture in pictures:
            convert(next(decoded), out=picture)
        if start + len(batch) == len(wanted):
            # What follows the last picture is still to be judged.
            for _ in decoded:
                pass
        yield batch, pictures
        del pictures


def _decoded_frames(path: Path, facts: "VideoFacts", wanted: NDArray[np.int64]) -> Iterator[Any]:
    """The wanted frames one by one; if the last frame is wanted, nothing may follow it."""
    from pipeline.decoder_threads import decoder_threads

    needed = iter(wanted.tolist())
    target = next(needed, None)
    decoded = 0
    with _reopen(path) as container:
        stream = container.streams[facts.stream_index]
        # A cut video is read as when the frames before the damage were counted.
        stream.codec_context.thread_count = 1 if facts.is_cut else decoder_threads(path, facts)
        stream.thread_type = "AUTO"
        try:
            for frame in container.decode(stream):
                beat()
                if decoded == facts.num_frames:
                    raise CorruptVideoError(
                        f"{path}: decodes to more frames than the {decoded} its index promises. "
                        "Re-encode it, or leave it out."
                    )
                decoded += 1
                if decoded - 1 == target:
                    yield frame
                    target = next(needed, None)
                if target is None and (facts.is_cut or decoded < facts.num_frames):
                    return
        except av.FFmpegError as error:
            intact = len(decodable_stamps(path, facts.stream_index))
            raise corrupt_after(path, intact, facts.num_frames) from error
    if decoded < facts.num_frames:
        raise corrupt_after(path, decoded, facts.num_frames)


def open_pyav(path: Path) -> Any:  # noqa: ANN401
    """A PyAV container of a local file, whatever its name looks like."""
    # The prefix keeps names such as `concat:a|b` or `-` from being read as protocols or options.
    return av.open(f"file:{path.resolve()}", mode="r", **_OPEN_OPTIONS)


def _reopen(path: Path) -> Any:  # noqa: ANN401
    """The container of a video that probing could open."""
    try:
        return open_pyav(path)
    except (av.FFmpegError, OSError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise CorruptVideoError(
            f"{path}: not readable any more ({reason}). It changed after it was probed; run again when it is complete."
        ) from error


def decodable_stamps(path: Path, stream_index: int) -> list[int | None]:
    """Presentation time stamps of the frames PyAV decodes, in one thread, before its first error or the end."""
    stamps = []
    with _reopen(path) as container:
        stream = container.streams[stream_index]
        # Frame threads lose finished frames when a later one fails; the count must not depend on that.
        stream.codec_context.thread_count = 1
        try:
            for frame in container.decode(stream):
                beat()
                stamps.append(frame.pts)
        except av.FFmpegError as error:
            log.info("%s: decoding stopped after frame %d: %s", path, len(stamps), error)
    return stamps


def corrupt_after(path: Path, decodable: int, promised: int) -> CorruptVideoError:
    """The error for a video that ends, or breaks, before its promised end."""
    kept = ", leave it out, or take its whole part with `--on-corrupt keep-decodable`"
    remedy = kept if decodable else ", or leave it out"
    return CorruptVideoError(
        f"{path}: corrupt after frame {decodable} of {promised}. Replace it by an intact copy{remedy}.",
        promised=promised,
    )


class RgbConverter:
    """Turns decoded frames of one video into upright 8-bit RGB of one size.

    Matrix and range are taken as tagged; untagged pictures are BT.601 below 720 lines, else BT.709.
    A rotation is rounded to quarter turns.
    """

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()
        self._size: tuple[int, int] | None = None

    def __call__(self, frame: Any, *, out: NDArray[np.uint8] | None = None) -> NDArray[np.uint8]:  # noqa: ANN401
        """(H, W, 3) uint8, in ``out`` if given. A frame of another size than the first is scaled to it."""
        self._size = self._size or (frame.width, frame.height)
        assume_bt709 = is_untagged_high_definition(frame)
        converted = self._reformatter.reformat(
            frame,
            width=self._size[0],
            height=self._size[1],
            format="rgb24",
            src_colorspace=Colorspace.ITU709 if assume_bt709 else None,
            # Measured: one thread converts faster than several do, and leaves the others to the decoder.
            threads=1,
        )
        plane = converted.planes[0]
        rows = np.frombuffer(memoryview(plane), np.uint8).reshape(converted.height, plane.line_size)
        rgb = rows[:, : converted.width * 3].reshape(converted.height, converted.width, 3)
        upright = np.rot90(rgb, quarter_turns(frame))
        pictures = np.empty(upright.shape, np.uint8) if out is None else out
        pictures[:] = upright
        return pictures


def quarter_turns(frame: Any) -> int:  # noqa: ANN401
    """Anti-clockwise quarter turns, 0 to 3, that bring a frame upright."""
    return int(round(frame.rotation / 90) % 4)


def is_untagged_high_definition(frame: Any) -> bool:  # noqa: ANN401
    """Whether a YUV frame names no matrix and has 720 lines or more, so that BT.709 is assumed."""
    return int(frame.colorspace) == _UNTAGGED_MATRIX and frame.height >= _HIGH_DEFINITION_LINES
