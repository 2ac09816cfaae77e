"""Small videos made for a test."""

import shutil
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from pipeline import extract_batch
from pipeline.extractors import ExtractorSet, load_extractors
from pipeline.inputs import resolve_extraction
from pipeline.settings import ExtractionSettings
from pipeline.train import train
from storage.store import Store
from tests.pipeline.tiny import TinyDataset, one_thread, write_tiny_dataset

SHARED = Path(__file__).resolve().parents[2].parent / "shared"


def draw_frames(num_frames: int, *, width: int = 96, height: int = 64) -> NDArray[np.uint8]:
    """(n, H, W, 3): a coloured ramp with a bright square whose place tells the frame's index."""
    y, x = np.mgrid[0:height, 0:width]
    ramp = np.stack([x * 200 // width, y * 200 // height, (x + y) * 120 // (width + height)], axis=-1)
    frames = np.repeat(ramp[None].astype(np.uint8), num_frames, axis=0)
    for index, frame in enumerate(frames):
        row, column = 8 * (index // 8 % 6), 8 * (index % 8)
        frame[row : row + 8, column : column + 8] = (250, 240 - 20 * (index % 5), 30)
    return frames


def write_video(
    path: Path,
    frames: NDArray[np.uint8],
    *,
    fps: int = 25,
    stamps: list[int] | None = None,
    codec: str = "libx264",
    options: dict[str, str] | None = None,
    pixel_format: str = "yuv420p",
    container_options: dict[str, str] | None = None,
) -> Path:
    """Encode frames; ``stamps`` are milliseconds, one per frame, for a variable rate."""
    with av.open(path, "w", options=container_options or {}) as container:
        stream = container.add_stream(codec, rate=fps)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = pixel_format
        stream.codec_context.options = (
            {"crf": "12", "g": "12", **(options or {})} if codec == "libx264" else {}
        )
        if stamps is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for index, picture in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            frame.pts = index if stamps is None else stamps[index]
            frame.time_base = Fraction(1, fps) if stamps is None else Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def overwrite_pictures(source: Path, target: Path, *, after: int) -> Path:
    """A copy of a video whose pictures after the first so many packets are overwritten by zeros."""
    content = bytearray(source.read_bytes())
    with av.open(source) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    for packet in packets[after:]:
        content[packet.pos : packet.pos + packet.size] = bytes(packet.size)
    target.write_bytes(content)
    return target


@pytest.fixture
def break_video() -> Callable[..., Path]:
    """``overwrite_pictures`` as a fixture."""
    return overwrite_pictures


@pytest.fixture(scope="session")
def h264(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 frames of 96x64 at 25 frames/s with B-frames and several key frames."""
    return write_video(tmp_path_factory.mktemp("videos") / "square.mp4", draw_frames(40))


@pytest.fixture
def make_video() -> Callable[..., Path]:
    """``write_video`` as a fixture."""
    return write_video


@pytest.fixture
def make_frames() -> Callable[..., NDArray[np.uint8]]:
    """``draw_frames`` as a fixture."""
    return draw_frames


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real videos and golden numbers that lies beside the checkout."""
    if not SHARED.is_dir():
        pytest.skip(f"no folder {SHARED.name} beside the checkout")
    return SHARED


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> TinyDataset:
    """Five tiny labelled videos; not to be changed by a test."""
    return write_tiny_dataset(tmp_path_factory.mktemp("tiny") / "data")


@pytest.fixture(scope="session")
def tiny_store(tiny: TinyDataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with features of all five videos."""
    store = tmp_path_factory.mktemp("tiny") / "store"
    tiny.fill(store)
    return store


@pytest.fixture(scope="session")
def tiny_run(tiny: TinyDataset, tiny_store: Path) -> str:
    """Key of a run trained in ``tiny_store``."""
    with one_thread():
        return train(tiny.settings(tiny_store)).run


@pytest.fixture(scope="session")
def clip_extractors(tmp_path_factory: pytest.TempPathFactory) -> ExtractorSet:
    """A CLIP with random weights that takes every 16th frame; built once, when first asked."""
    settings = ExtractionSettings(features=("clip:stride=16",), weights="random", device="cpu")
    weights = resolve_extraction(settings, store=Store(tmp_path_factory.mktemp("built") / "store"))
    return load_extractors(settings.profiles, weights, device=torch.device("cpu"))


@pytest.fixture
def clip_is_built(clip_extractors: ExtractorSet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Extraction of a batch finds the CLIP of ``clip_extractors``, whatever it asks for."""
    monkeypatch.setattr(extract_batch, "shared_extractors", lambda _extraction, _store: (clip_extractors,))


@pytest.fixture
def own_store(tiny_store: Path, tmp_path: Path) -> Path:
    """A copy of ``tiny_store`` for a test to change."""
    return Path(shutil.copytree(tiny_store, tmp_path / "store"))


@pytest.fixture
def single_thread() -> Iterator[None]:
    """A test on one thread."""
    with one_thread():
        yield
