"""How fast I3D and CLIP features are made, as JSON lines.

    python -m benchmarks.extraction --parts forward,whole                     # on a CPU
    python -m benchmarks.extraction --device cuda --precisions bfloat16 --parts forward,whole,several --frames 3000

``forward``: networks alone, from pictures that are decoded already; ``published`` is the published port's layout
(batch norm apart, default memory order). ``whole``: a drawn 720p H.264 video from file to features, over the sum of
the fastest bare forward on the same windows and a bare decode of the same frames. ``several``: some videos at once.
``rounding``: how far features in bfloat16 are from those in float32; no time is measured.
Weights and pictures are random: they change no time. Memory has a benchmark of its own, ``extraction_memory``.
Needs torch, torchvision, numpy, av, pyarrow and open_clip; decord is used where it is installed.
"""

import argparse
import json
import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from benchmarks.gpu_trace import busy_shares
from pipeline.clip import load_clip
from pipeline.device import cpu_has_bf16
from pipeline.encode import write_h264
from pipeline.extract import extract_video
from pipeline.extractors import ExtractorSet, load_extractors, load_i3d
from pipeline.i3d import InceptionI3D, random_init
from pipeline.i3d_dense import REACH
from pipeline.i3d_stem import can_share
from pipeline.preprocess import i3d_frames, upload
from pipeline.probe import VideoFacts, probe_video
from pipeline.profiles import Precision, Profile, parse_profile
from pipeline.video import read_frames
from pipeline.weights import random_weights
from storage.keys import file_digest
from storage.store import Store

WIDTH, HEIGHT, FPS = 1280, 720, 25
WINDOW = 21
_BOTH: tuple[Precision, Precision] = ("float32", "bfloat16")


@dataclass(frozen=True)
class Bench:
    """What was asked for."""

    device: torch.device
    precisions: tuple[Precision, ...]
    frames: int
    stride: int
    clip_stride: int
    repeats: int
    at_once: int
    folder: Path

    @property
    def on_gpu(self) -> bool:
        """Whether the networks run on a GPU."""
        return self.device.type == "cuda"


def emit(bench: Bench, part: str, **facts: object) -> None:
    """One line of JSON."""
    where = torch.cuda.get_device_name(bench.device) if bench.on_gpu else f"cpu x{torch.get_num_threads()}"
    line = {"benchmark": "extraction", "part": part, **facts, "device": where, "torch": torch.__version__}
    print(json.dumps({**line, "machine": platform.machine(), "weights": "random"}), flush=True)


def seconds(bench: Bench, call: Callable[[], object]) -> float:
    """Fastest of some repeats, after one that warms up."""
    times = []
    for _ in range(bench.repeats + 1):
        start = time.perf_counter()
        call()
        if bench.on_gpu:
            torch.cuda.synchronize(bench.device)
        times.append(time.perf_counter() - start)
    return min(times[1:])


def draw(path: Path, *, frames: int, seed: int) -> Path:
    """A 720p H.264 video of a texture that drifts."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (HEIGHT // 8 + 40, WIDTH // 8 + 40, 3), dtype=np.uint8)
    texture = coarse.repeat(8, axis=0).repeat(8, axis=1)

    def pictures() -> Iterator[NDArray[np.uint8]]:
        for index in range(frames):
            row, column = index % 300, index * 2 % 300
            yield np.ascontiguousarray(texture[row : row + HEIGHT, column : column + WIDTH])

    write_h264(path, pictures(), width=WIDTH, height=HEIGHT, fps=FPS)
    return path


def forward(bench: Bench) -> None:
    """Networks alone."""
    batch = 32 if bench.on_gpu else 4
    frames = torch.randn(batch * 4 + WINDOW, 224, 224, 3, device=bench.device)
    windows = torch.stack([frames[4 * index : 4 * index + WINDOW] for index in range(batch)])
    for precision in bench.precisions:
        encoder = load_i3d(random_weights("i3d-rgb", seed=0), device=bench.device, precision=precision)
        taken = seconds(bench, lambda encoder=encoder: encoder.encode_windows(windows))
        emit(bench, "forward", network="i3d-rgb", precision=precision, windows_per_second=batch / taken)
        count = 2 * batch
        dense = torch.randn(count + WINDOW - 1 + 2 * REACH, 224, 224, 3, device=bench.device)
        span = dense[REACH:-REACH]
        together: dict[str, Callable[[], object]] = {
            "i3d-rgb, neighbours at stride 1": lambda encoder=encoder, span=span: encoder.encode_overlapping(
                span, stride=1, window_frames=WINDOW
            ),
            "i3d-rgb-dense": lambda encoder=encoder, dense=dense: encoder.encode_dense(
                dense, stride=1, window_frames=WINDOW
            ),
        }
        for name, call in together.items():
            rate = count / seconds(bench, call)
            emit(
                bench,
                "forward",
                network=name,
                precision=precision,
                windows_per_second=rate,
                factor=rate * taken / batch,
            )
    model = InceptionI3D(in_channels=3).eval()
    random_init(model, seed=0)
    published = model.to(bench.device)
    with torch.inference_mode():
        plain = windows.permute(0, 4, 1, 2, 3).contiguous()
        taken = seconds(bench, lambda: published(plain))
    emit(bench, "forward", network="i3d-rgb published", precision="float32", windows_per_second=batch / taken)
    _clip_forward(bench)


def _clip_forward(bench: Bench) -> None:
    batch = 256 if bench.on_gpu else 16
    pictures = np.random.default_rng(0).integers(0, 256, (batch, HEIGHT, WIDTH, 3), dtype=np.uint8)
    for precision in bench.precisions:
        encoder = load_clip(random_weights("clip/ViT-B-32", seed=0), device=bench.device, precision=precision)
        images = encoder.preprocess(upload(pictures, device=bench.device))
        taken = seconds(bench, lambda encoder=encoder, images=images: encoder.encode_images(images))
        emit(bench, "forward", network="clip/ViT-B-32", precision=precision, frames_per_second=batch / taken)
        whole = seconds(
            bench,
            lambda encoder=encoder: encoder.encode_images(
                encoder.preprocess(upload(pictures, device=bench.device))
            ),
        )
        emit(
            bench,
            "forward",
            network="clip/ViT-B-32",
            precision=precision,
            input="720p pictures in memory",
            frames_per_second=batch / whole,
        )


def rounding(bench: Bench) -> None:
    """Cosine of features in bfloat16 with those in float32, network by network."""
    count = 4
    coarse = torch.rand(1, 5, WINDOW + count, 14, 14, generator=torch.Generator().manual_seed(0))
    smooth = functional.interpolate(coarse, size=(WINDOW + count, 224, 224), mode="trilinear")[0]
    frames = smooth.permute(1, 2, 3, 0).to(bench.device)
    for network, channels in {"i3d-rgb": slice(0, 3), "i3d-optical-flow": slice(3, 5)}.items():
        video = 2 * frames[..., channels] - 1
        windows = torch.stack([video[start : start + WINDOW] for start in range(count)])
        weights = random_weights(network, seed=0)
        exact, near = (
            load_i3d(weights, device=bench.device, precision=precision).encode_windows(windows)
            for precision in _BOTH
        )
        _emit_rounding(bench, network, exact, near)
    pictures = (255 * frames[..., :3]).byte()
    weights = random_weights("clip/ViT-B-32", seed=0)
    exact, near = (
        encoder.encode_images(encoder.preprocess(pictures))
        for encoder in (load_clip(weights, device=bench.device, precision=precision) for precision in _BOTH)
    )
    _emit_rounding(bench, "clip/ViT-B-32", exact, near)


def _emit_rounding(bench: Bench, network: str, exact: Tensor, near: Tensor) -> None:
    cosine = functional.cosine_similarity(exact.double(), near.double())
    distance = (exact - near).norm(dim=1) / exact.norm(dim=1)
    emit(
        bench,
        "rounding",
        network=network,
        precision="bfloat16",
        rows=len(exact),
        smallest_cosine=cosine.min().item(),
        largest_relative_distance=distance.max().item(),
        native_bfloat16=bench.on_gpu or cpu_has_bf16(),
    )


def decode_seconds(bench: Bench, path: Path, facts: VideoFacts) -> tuple[str, float]:
    """The bare loop of decord where it is installed, else that of PyAV, over all frames."""
    try:
        import decord
    except ImportError:
        return "pyav", seconds(bench, lambda: [None for _ in read_frames(path, facts)])

    def loop() -> None:
        reader = decord.VideoReader(str(path), ctx=decord.cpu(0))
        for start in range(0, len(reader), 32):
            reader.get_batch(list(range(start, min(start + 32, len(reader))))).asnumpy()

    return "decord", seconds(bench, loop)


def profiles(bench: Bench) -> list[Profile]:
    """What ``whole`` measures."""
    texts = [f"i3d-rgb:stride={bench.stride}", f"clip:stride={bench.clip_stride}"]
    return [
        parse_profile(f"{text}:precision={precision}") for text in texts for precision in bench.precisions
    ]


def extractors_of(bench: Bench, profile: Profile) -> ExtractorSet:
    """A profile with random weights, its network built."""
    weights = {name: random_weights(name, seed=0) for name in profile.networks}
    made = load_extractors([profile], weights, device=bench.device)
    for name in profile.networks:
        build = made.extractors[0].networks
        build.clip(name, precision=profile.precision) if profile.kind == "clip" else build.i3d(
            name, precision=profile.precision
        )
    return made


def whole(bench: Bench) -> None:
    """From file to features, over bare forward and bare decode."""
    path = draw(bench.folder / "whole.mp4", frames=bench.frames, seed=0)
    facts = probe_video(path)
    for profile in profiles(bench):
        extractors = extractors_of(bench, profile)
        decoder, decode = decode_seconds(bench, path, facts)
        bare, steps = _bare(bench, profile, extractors, path, facts)
        taken = seconds(
            bench, lambda extractors=extractors: _extract(bench, path, facts, extractors, "whole")
        )
        emit(
            bench,
            "whole",
            profile=profile.spec,
            frames=bench.frames,
            steps=steps,
            steps_per_second=steps / taken,
            seconds=taken,
            bare_forward_seconds=bare,
            bare_decode_seconds=decode,
            bare_decoder=decoder,
            used_decoder=facts.decoder,
            over_sum=taken / (bare + decode),
        )


def _bare(
    bench: Bench, profile: Profile, extractors: ExtractorSet, path: Path, facts: VideoFacts
) -> tuple[float, int]:
    """Seconds of the forward over all steps of the video, from pictures in memory, and how many steps."""
    networks = extractors.extractors[0].networks
    steps = len(range(0, facts.num_frames, profile.stride_frames))
    _, pictures = next(iter(read_frames(path, facts, batch_frames=WINDOW + 31)))
    if profile.kind == "clip":
        batch = 256 if bench.on_gpu else 16
        clip = networks.clip(profile.networks[0], precision=profile.precision)
        images = clip.preprocess(upload(pictures, device=bench.device))
        images = images.repeat(-(-batch // len(images)), 1, 1, 1)[:batch]
        return seconds(bench, lambda: clip.encode_images(images)) * steps / batch, steps
    batch = 32 if bench.on_gpu else 4
    i3d = networks.i3d(profile.networks[0], precision=profile.precision)
    frames = i3d_frames(upload(pictures, device=bench.device))
    windows = torch.stack([frames[index : index + WINDOW] for index in range(batch)])
    apart = seconds(bench, lambda: i3d.encode_windows(windows)) * steps / batch
    stride = profile.stride_frames
    if not can_share(stride=stride, window_frames=WINDOW):
        return apart, steps
    span = frames[torch.arange((batch - 1) * stride + WINDOW, device=bench.device) % len(frames)]
    shared = seconds(bench, lambda: i3d.encode_overlapping(span, stride=stride, window_frames=WINDOW))
    return min(apart, shared * steps / batch), steps


def _extract(bench: Bench, path: Path, facts: VideoFacts, extractors: ExtractorSet, store: str) -> None:
    folder = bench.folder / store
    shutil.rmtree(folder, ignore_errors=True)
    extract_video(path, facts, file_digest(path), extractors, store=Store(folder))


def several(bench: Bench) -> None:
    """Some videos at once on one device, and how busy it was; decoding processes are started by a round before."""
    path = draw(bench.folder / "several.mp4", frames=bench.frames, seed=1)
    facts = probe_video(path)
    for profile in profiles(bench):
        extractors = extractors_of(bench, profile)
        bare, steps = _bare(bench, profile, extractors, path, facts)

        def round_of(extractors: ExtractorSet = extractors) -> None:
            with ThreadPoolExecutor(bench.at_once) as pool:
                jobs = [
                    pool.submit(_extract, bench, path, facts, extractors, f"several{index}")
                    for index in range(bench.at_once)
                ]
                for job in jobs:
                    job.result()

        taken = seconds(bench, round_of)
        emit(
            bench,
            "several",
            profile=profile.spec,
            videos=bench.at_once,
            steps_per_second=bench.at_once * steps / taken,
            frames_per_second=bench.at_once * bench.frames / taken,
            forward_share=bench.at_once * bare / taken,
            **(busy_shares(round_of) if bench.on_gpu else {}),
        )


PARTS = {"forward": forward, "whole": whole, "several": several, "rounding": rounding}


def main() -> None:
    """Run what the options ask for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", default="forward,whole", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    default = "float32,bfloat16" if torch.cuda.is_available() or cpu_has_bf16() else "float32"
    parser.add_argument("--precisions", default=default)
    parser.add_argument("--frames", type=int, default=200, help="frames of a drawn video")
    parser.add_argument("--stride", type=int, default=1 if torch.cuda.is_available() else 8)
    parser.add_argument("--clip-stride", type=int, default=1 if torch.cuda.is_available() else 4)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--at-once", type=int, default=2, help="videos at once in the part several")
    options = parser.parse_args()
    wanted = options.parts.split(",")
    if unknown := set(wanted) - set(PARTS):
        parser.error(f"no part {min(unknown)}; known are {', '.join(PARTS)}")
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(
            device=torch.device(options.device),
            precisions=tuple(options.precisions.split(",")),
            frames=options.frames,
            stride=options.stride,
            clip_stride=options.clip_stride,
            repeats=options.repeats,
            at_once=options.at_once,
            folder=Path(folder),
        )
        for name, part in PARTS.items():
            if name in wanted:
                part(bench)


if __name__ == "__main__":
    main()
