"""Size and speed of feature files against ``.npy`` and ``torch.save``; a JSON line per measurement.

The numbers: rectified, skewed values as Inception-I3D's last pool gives them (gamma-distributed, a
twentieth zeros), or rows repeated from a ``.npy`` file of real features by ``--like``.

    python -m benchmarks.storage --steps 6000 --width 2048 --videos 500 --epoch-steps 300

Cold reads drop the file from the page cache first (``posix_fadvise``); where the machine has no such call they are
left out. ``single``: one array of steps x width. ``epoch``: all videos, one after the other, every value touched.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from storage.feature_cache import CACHE_FOLDER, read_mapped_features
from storage.features import FeatureMetadata, FeaturePacking, read_features, write_features

_METADATA = FeatureMetadata(
    profile="mstcn-i3d",
    identity={},
    weights_digest="",
    random_weights=True,
    video_hash="",
    decoder="none",
    fps=25.0,
    num_frames=0,
    window_frames=21,
    stride_frames=1,
)

Array = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, slots=True)
class Form:
    """One way to keep an array."""

    name: str
    ending: str
    write: Callable[[Path, Array], object]
    read: Callable[[Path], Array]


def _torch_write(path: Path, feature: Array) -> None:
    torch.save(torch.from_numpy(feature), path)


def _torch_read(path: Path) -> Array:
    array: Array = torch.load(path, weights_only=True).numpy()
    return array


def _parquet(packing: FeaturePacking) -> Callable[[Path, Array], None]:
    def write(path: Path, feature: Array) -> None:
        with write_features(path, width=feature.shape[1], metadata=_METADATA, packing=packing) as writer:
            writer.append(np.arange(len(feature)) / 25, feature)

    return write


FORMS = (
    Form(name="npy", ending=".npy", write=np.save, read=np.load),
    Form(name="torch.save", ending=".pt", write=_torch_write, read=_torch_read),
    *(
        Form(
            name=packing,
            ending=".parquet",
            write=_parquet(packing),
            read=lambda path: read_features(path).feature,
        )
        for packing in ("compact", "exact", "fast")
    ),
    Form(
        name="compact + cache",
        ending=".parquet",
        write=_parquet("compact"),
        read=lambda path: read_mapped_features(path).feature,
    ),
)


def synthetic(steps: int, width: int, *, seed: int) -> Array:
    """(steps, width) values distributed like rectified, pooled activations; neighbours in time resemble each other."""
    generator = np.random.default_rng(seed)
    values = generator.gamma(0.6, 0.5, (steps, width)).astype(np.float32)
    values[generator.random((steps, width)) < 0.05] = 0
    return values


def seconds(work: Callable[[], object], *, repeats: int) -> float:
    """The shortest of some trials."""
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return min(times)


def drop_from_page_cache(paths: list[Path]) -> bool:
    """Whether the files were taken out of memory."""
    if not hasattr(os, "posix_fadvise"):
        return False
    for path in paths:
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return True


def measure(form: Form, arrays: list[Array], folder: Path, *, repeats: int) -> dict[str, Any]:
    """Size, and seconds to write, read cold and read warm, of all arrays."""
    paths = [folder / f"{index}{form.ending}" for index in range(len(arrays))]

    def write() -> None:
        for path, array in zip(paths, arrays, strict=True):
            form.write(path, array)

    def read() -> float:
        # The sum touches every value: a mapped file costs nothing before.
        return sum(float(form.read(path).sum()) for path in paths)

    row: dict[str, Any] = {"form": form.name, "write_s": seconds(write, repeats=1)}
    row["first_read_s"] = seconds(read, repeats=1)
    row["bytes"] = sum(path.stat().st_size for path in paths)
    kept = list(folder.glob(f"{CACHE_FOLDER}/*"))
    row["cache_bytes"] = sum(path.stat().st_size for path in kept)
    row["warm_read_s"] = seconds(read, repeats=repeats)
    if drop_from_page_cache([*paths, *kept]):
        row["cold_read_s"] = seconds(read, repeats=1)
    return row


def rounding(feature: Array) -> dict[str, float]:
    """What float16 costs: cosine of each row with its rounded self, and the largest error of a value."""
    rounded = feature.astype(np.float16).astype(np.float32)
    exact, near = feature.astype(np.float64), rounded.astype(np.float64)
    lengths = np.linalg.norm(exact, axis=1) * np.linalg.norm(near, axis=1)
    cosine = (exact * near).sum(axis=1) / np.where(lengths > 0, lengths, 1)
    scale = np.abs(exact).max()
    return {
        "smallest_cosine": float(cosine.min()),
        "largest_error_of_scale": float(np.abs(exact - near).max() / scale),
    }


def measurements(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Every measurement as a row."""
    if options.like is not None:
        real = np.load(options.like).astype(np.float32)
        pool = np.resize(real, (options.steps, real.shape[1]))
    else:
        pool = synthetic(options.steps, options.width, seed=0)
    yield {"what": "float16", **rounding(pool)}
    epoch = [np.roll(pool[: options.epoch_steps], index, axis=0) for index in range(options.videos)]
    for what, arrays in (("single", [pool]), ("epoch", epoch)):
        base: dict[str, Any] = {}
        for form in FORMS:
            with tempfile.TemporaryDirectory(dir=options.folder) as folder:
                row = measure(form, arrays, Path(folder), repeats=options.repeats)
            base = base or row
            row["size_of_npy"] = row["bytes"] / base["bytes"]
            row["warm_of_npy"] = row["warm_read_s"] / base["warm_read_s"]
            yield {"what": what, "arrays": len(arrays), "shape": list(arrays[0].shape), **row}


def main() -> None:
    """Print what was measured."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--width", type=int, default=2048)
    parser.add_argument("--videos", type=int, default=500)
    parser.add_argument("--epoch-steps", type=int, default=300, help="steps of each video of the epoch")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--like", type=Path, help="a .npy of real (T, D) features whose rows are used")
    parser.add_argument("--folder", type=Path, help="where the temporary files go")
    for row in measurements(parser.parse_args()):
        print(
            json.dumps(
                {name: round(value, 5) if isinstance(value, float) else value for name, value in row.items()}
            ),
            flush=True,
        )


if __name__ == "__main__":
    main()
