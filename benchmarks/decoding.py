"""Decoding alone: our reader, guard included, against the best bare decord loop over the same file.

    python -m benchmarks.decoding            # 720p and 1080p, H.264, VP9 and 10-bit HEVC, five paired rounds
    python -m benchmarks.decoding --quick    # one small video, two rounds

A JSON line per video: frames per second of both, and the median ratio of rounds run one after the other. Bare
decord is tried with several thread counts and both of its ways to read; the best of them is what counts.
"""

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import av
import decord
import numpy as np

from pipeline.guard import live_processes, probe_guarded, read_guarded

CODECS = {
    "h264": ("libx264", ".mp4", "yuv420p", {"preset": "veryfast"}),
    "vp9": ("libvpx-vp9", ".webm", "yuv420p", {"cpu-used": "8"}),
    "hevc-10bit": (
        "libx265",
        ".mp4",
        "yuv420p10le",
        {"preset": "ultrafast", "x265-params": "log-level=none"},
    ),
}
SIZES = {"720p": (1280, 720, 240), "1080p": (1920, 1080, 200)}


def draw(path: Path, *, codec: str, width: int, height: int, frames: int) -> None:
    """A moving pattern with fine texture: neither flat nor noise, like a filmed scene to a decoder."""
    encoder, _, pixel_format, options = CODECS[codec]
    rng = np.random.default_rng(0)
    texture = rng.integers(0, 60, (height + 200, width + 200, 3), np.uint8)
    texture = (texture + np.roll(texture, 1, 0) + np.roll(texture, 1, 1)) // 2
    with av.open(path, "w") as container:
        stream = container.add_stream(encoder, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, pixel_format
        stream.bit_rate = width * height * 4
        # Tagged, so that both decoders must use the same matrix.
        stream.codec_context.colorspace = 1
        stream.codec_context.color_range = 1
        for index in range(frames):
            y, x = (index * 2) % 200, (index * 3) % 200
            picture = texture[y : y + height, x : x + width].copy()
            picture[100:300, (index * 9) % width : (index * 9) % width + 200] += 90
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))


def bare_batches(path: Path, threads: int) -> int:
    """Frames that a bare decord loop reads in batches."""
    reader = decord.VideoReader(str(path), ctx=decord.cpu(0), num_threads=threads)
    done = 0
    for start in range(0, len(reader), 32):
        done += len(reader.get_batch(list(range(start, min(start + 32, len(reader))))).asnumpy())
    return done


def bare_singles(path: Path, threads: int) -> int:
    """Frames that a bare decord loop reads one by one."""
    reader = decord.VideoReader(str(path), ctx=decord.cpu(0), num_threads=threads)
    done = 0
    for _ in range(len(reader)):
        reader.next().asnumpy()
        done += 1
    return done


def ours(path: Path) -> int:
    """Frames that our reader gives, every one of them touched."""
    facts = probe_guarded(path)
    return sum(len(pictures) for _, pictures in read_guarded(path, facts))


def cpu_seconds() -> float:
    """Processor time of this process and of the decoding process, all threads: on a shared host it says more."""
    ticks = 0
    for process in live_processes():
        fields = Path(f"/proc/{process}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()
        ticks += int(fields[11]) + int(fields[12])
    return time.process_time() + ticks / os.sysconf("SC_CLK_TCK")


def rates(read: Callable[[], int]) -> tuple[float, float]:
    """Frames per second, and per second of processor time, of one run."""
    start, cpu_start = time.perf_counter(), cpu_seconds()
    frames = read()
    return frames / (time.perf_counter() - start), frames / (cpu_seconds() - cpu_start)


def compare(path: Path, *, rounds: int) -> dict[str, object]:
    """The best bare loop is chosen by a first round of all; then it and ours take turns."""
    cores = os.cpu_count() or 1
    ways = {
        f"{way.__name__}, {threads} threads": (way, threads)
        for way in (bare_batches, bare_singles)
        for threads in sorted({1, 2, cores, 0})
    }
    first = {
        name: rates(lambda way=way, threads=threads: way(path, threads))[0]
        for name, (way, threads) in ways.items()
    }
    best = max(first, key=lambda name: first[name])
    way, threads = ways[best]
    facts = probe_guarded(path)

    def read() -> int:
        return sum(len(pictures) for _, pictures in read_guarded(path, facts))

    read()
    pairs = [(rates(read), rates(lambda: way(path, threads))) for _ in range(rounds)]
    return {
        "decoder": facts.decoder,
        "ours_fps": round(statistics.median(mine[0] for mine, _ in pairs), 1),
        "bare_fps": round(statistics.median(bare[0] for _, bare in pairs), 1),
        "ratio": round(statistics.median(mine[0] / bare[0] for mine, bare in pairs), 3),
        "cpu_ratio": round(statistics.median(mine[1] / bare[1] for mine, bare in pairs), 3),
        "bare": best,
        "with_probe_fps": round(rates(lambda: ours(path))[0], 1),
    }


def main() -> None:
    """Draw the videos, compare, print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one small video, two rounds")
    parser.add_argument("--rounds", type=int, default=5, help="paired rounds per video")
    parser.add_argument("--codec", choices=list(CODECS), help="only this codec")
    parser.add_argument("--size", choices=list(SIZES), help="only this size")
    arguments = parser.parse_args()
    decord.logging.set_level(decord.logging.QUIET)
    sizes = {"tiny": (160, 96, 60)} if arguments.quick else SIZES
    sizes = {arguments.size: SIZES[arguments.size]} if arguments.size else sizes
    codecs = ["h264"] if arguments.quick else list(CODECS)
    codecs = [arguments.codec] if arguments.codec else codecs
    rounds = 2 if arguments.quick else arguments.rounds
    with tempfile.TemporaryDirectory() as folder:
        for codec in codecs:
            for size, (width, height, frames) in sizes.items():
                path = Path(folder) / f"{codec}-{size}{CODECS[codec][1]}"
                draw(path, codec=codec, width=width, height=height, frames=frames)
                line = {"benchmark": "decoding", "codec": codec, "size": size, "frames": frames}
                line |= {"cores": os.cpu_count(), "machine": platform.machine(), "load": os.getloadavg()[0]}
                print(json.dumps(line | compare(path, rounds=rounds)), flush=True)


if __name__ == "__main__":
    main()
