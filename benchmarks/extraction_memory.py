"""How much host memory extraction takes above its models, and that it does not grow with the video, as JSON lines.

    python -m benchmarks.extraction_memory                                # 300 and 3,000 frames of 1080p, I3D and CLIP
    python -m benchmarks.extraction_memory --features i3d-rgb:stride=1,clip --frames 60 --times 1

A line per video: the most that this process and its decoding processes held at once, sampled every 10 ms, above what
this process held with its networks built; of that, what the decoding processes held. The first video comes twice, for
what is taken once; longer ones are its packets over and over. Weights and pictures are random: they change nothing.
Linux.
"""

import argparse
import tempfile
import threading
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Self

import av
import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.measure import MIB, describe, emit
from pipeline.encode import write_h264
from pipeline.extract import extract_video
from pipeline.extractors import ExtractorSet, load_extractors
from pipeline.guard import probe_guarded
from pipeline.profiles import Profile, parse_profile
from pipeline.weights import random_weights
from storage.store import Store

FPS = 25
SIZES = {"720p": (1280, 720), "1080p": (1920, 1080), "2160p": (3840, 2160)}
_SAMPLE_SECONDS = 0.01


def draw(path: Path, *, width: int, height: int, frames: int) -> Path:
    """An H.264 video of a fine texture that drifts."""
    rng = np.random.default_rng(0)
    texture = rng.integers(0, 256, (height // 4 + 60, width // 4 + 60, 3), np.uint8)
    texture = texture.repeat(4, axis=0).repeat(4, axis=1)

    def pictures() -> Iterator[NDArray[np.uint8]]:
        for index in range(frames):
            row, column = index % 200, index * 2 % 200
            yield np.ascontiguousarray(texture[row : row + height, column : column + width])

    write_h264(path, pictures(), width=width, height=height, fps=FPS)
    return path


def repeat(source: Path, path: Path, *, times: int) -> Path:
    """A video whose packets are those of another, so many times, without encoding anything again."""
    with av.open(source) as given, av.open(path, "w") as made:
        template = given.streams.video[0]
        packets = [
            (bytes(packet), packet.pts, packet.dts, packet.is_keyframe)
            for packet in given.demux(template)
            if packet.size
        ]
        stream = made.add_stream_from_template(template)
        base = template.time_base or Fraction(1, FPS)
        length = round(len(packets) / FPS / base)
        for turn in range(times):
            for content, pts, dts, is_key in packets:
                packet = av.Packet(content)
                packet.stream, packet.time_base, packet.is_keyframe = stream, base, is_key
                packet.pts, packet.dts = (pts or 0) + turn * length, (dts or 0) + turn * length
                made.mux(packet)
    return path


class Peak:
    """The most that this process and its children held at once while the block ran, in bytes."""

    def __init__(self) -> None:
        self.all = 0
        """Of all of them, memory that they share counted once."""
        self.children = 0
        """Of the children alone, without what they share."""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._stop.is_set():
            children = sum(held(process)[0] for process in child_processes())
            self.children = max(self.children, children)
            self.all = max(self.all, sum(held("self")) + children)
            time.sleep(_SAMPLE_SECONDS)


def held(process: str) -> tuple[int, int]:
    """Bytes of memory that a process holds for itself, and that it shares with others; zeros where it is gone."""
    try:
        lines = Path(f"/proc/{process}/status").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return 0, 0
    facts = {name: value.split() for name, _, value in (line.partition(":") for line in lines)}
    anonymous, shared = (
        1024 * int(facts[name][0]) if name in facts else 0 for name in ("RssAnon", "RssShmem")
    )
    return anonymous, shared


def child_processes() -> list[str]:
    """Ids of the processes that this one started."""
    found: list[str] = []
    for file in Path("/proc/self/task").glob("*/children"):
        try:
            found += file.read_text(encoding="ascii").split()
        except OSError:
            continue
    return found


def built(profiles: list[Profile], *, device: torch.device) -> ExtractorSet:
    """Profiles with random weights, all their networks built."""
    weights = {name: random_weights(name, seed=0) for profile in profiles for name in profile.networks}
    extractors = load_extractors(profiles, weights, device=device)
    for extractor in extractors:
        networks, profile = extractor.networks, extractor.profile
        for name in profile.networks[: len(profile.streams) or 1]:
            build = networks.clip if profile.kind == "clip" else networks.i3d
            build(name, precision=profile.precision)
    return extractors


def main() -> None:
    """Draw, extract, print a line for each video."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--features", default="i3d-rgb:stride=64,clip:stride=16", help="profiles")
    parser.add_argument("--size", choices=list(SIZES), default="1080p")
    parser.add_argument("--frames", type=int, default=300, help="frames of the first video")
    parser.add_argument("--times", default="1,10", help="how many times as long the videos are")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    device = torch.device(options.device)
    profiles = [parse_profile(text) for text in options.features.split(",")]
    width, height = SIZES[options.size]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        first = draw(folder / "first.mp4", width=width, height=height, frames=options.frames)
        extractors = built(profiles, device=device)
        models = sum(held("self"))
        # What a network takes once, and the allocator keeps, is not taken for growth.
        measure(first, extractors, models=models, store=Store(folder / "first"))
        for times in map(int, options.times.split(",")):
            path = repeat(first, folder / f"{times}.mp4", times=times)
            measure(path, extractors, models=models, store=Store(folder / "store"))


def measure(path: Path, extractors: ExtractorSet, *, models: int, store: Store) -> None:
    """Extract one video and print what that held."""
    facts = probe_guarded(path)
    content = store.digests.digest(path)
    start = time.perf_counter()
    with Peak() as peak:
        extract_video(path, facts, content, extractors, store=store)
    seconds = time.perf_counter() - start
    emit(
        benchmark="extraction_memory",
        features=[extractor.profile.spec for extractor in extractors],
        size=f"{facts.width}x{facts.height}",
        frames=facts.num_frames,
        decoder=facts.decoder,
        models_mib=round(models / MIB),
        above_models_mib=round((peak.all - models) / MIB),
        decoding_mib=round(peak.children / MIB),
        frames_per_second=round(facts.num_frames / seconds, 1),
        weights="random",
        **describe(extractors.extractors[0].networks.device),
    )


if __name__ == "__main__":
    main()
