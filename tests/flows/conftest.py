"""A tiny data set and the means to run the command line as its users do."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
COLOURS = {"pour milk": (200, 60, 40), "stir": (40, 180, 60), "background": (90, 90, 90)}
ORDER = ("background", "pour milk", "stir", "background")
FRAMES_PER_SEGMENT = 10

TINY_RECIPE = """
FACT: {ntoken: 8, block: iuU, fpos: false, cmr: 0.0}
Bi: {hid_dim: 32, a_dim: 16, a_ffdim: 32, a_nhead: 2, a_layers: 1, f_dim: 16, f_layers: 3, f_ln: false, f_ngp: 1,
  dropout: 0.0}
Bu: {f_layers: 3}
BU: {f_layers: 3}
batch_size: 2
optimizer: Adam
lr: 0.005
epoch: 30
bg_class: [0]
"""
"""A FACT file small enough for a test."""


def write_dataset(folder: Path, *, train=("a", "b"), test=("c",)) -> Path:
    """Videos whose colour is their label, in the MS-TCN layout."""
    from pipeline.encode import write_h264

    for name in ("videos", "labels", "splits"):
        (folder / name).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for video in (*train, *test):
        labels = [label for label in ORDER for _ in range(FRAMES_PER_SEGMENT)]
        noise = rng.integers(0, 30, (len(labels), 64, 96, 3))
        pictures = [
            (np.array(COLOURS[label]) + part).astype(np.uint8)
            for label, part in zip(labels, noise, strict=True)
        ]
        write_h264(folder / "videos" / f"{video}.mp4", pictures, width=96, height=64, fps=10)
        (folder / "labels" / f"{video}.txt").write_text("\n".join(labels) + "\n")
    (folder / "mapping.txt").write_text(
        "".join(f"{index} {name}\n" for index, name in enumerate(sorted(COLOURS)))
    )
    (folder / "splits" / "train.split1.bundle").write_text("\n".join(train))
    (folder / "splits" / "test.split1.bundle").write_text("\n".join(test))
    (folder / "tiny.yaml").write_text(TINY_RECIPE)
    return folder


def dataset_options(folder: Path) -> list[str]:
    """Command-line options that name the data set, quick features and the tiny recipe."""
    return [
        *("--videos", str(folder / "videos"), "--labels", str(folder / "labels")),
        *("--mapping", str(folder / "mapping.txt"), "--splits", str(folder / "splits"), "--name", "tiny"),
        *("--features", "clip:stride=5", "--weights", "random", "--recipe", str(folder / "tiny.yaml")),
    ]


@pytest.fixture(scope="session")
def dataset(tmp_path_factory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("dataset"))


@pytest.fixture(scope="session")
def prefect_home(tmp_path_factory) -> Path:
    """One Prefect database for all tests, and none of the user's."""
    return tmp_path_factory.mktemp("prefect")


@pytest.fixture(scope="session")
def factseg(prefect_home):
    """Runs ``factseg`` as a process of its own."""

    def run(
        *arguments: object, timeout: int = 600, largest_file: int = 0, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        limit = f"import resource as r; r.setrlimit(r.RLIMIT_FSIZE, ({largest_file},) * 2); "
        program = f"{limit if largest_file else ''}from flows.cli import main; main()"
        command = [sys.executable, "-c", program, *map(str, arguments)]
        variables = {**os.environ, "PREFECT_HOME": str(prefect_home), "COLUMNS": "200", **environment}
        return subprocess.run(
            command, capture_output=True, text=True, timeout=timeout, env=variables, cwd=ROOT, check=False
        )

    return run


@pytest.fixture(scope="session")
def trained(dataset, factseg, tmp_path_factory):
    """A store in which the tiny data set went through the whole chain without Prefect, and what was printed."""
    store = tmp_path_factory.mktemp("trained") / "store"
    ran = factseg("run", *dataset_options(dataset), "--store", store, "--direct", "--json")
    assert ran.returncode == 0, ran.stderr
    return store, ran
