"""``factseg benchmark``: every split from every seed, and a table of what they come to."""

import json
import re
import statistics

import numpy as np
import pytest

from flows.cli import run_command
from pipeline.import_mstcn import MstcnFolder, import_mstcn
from storage.store import Store
from tests.pipeline.tiny import CLASSES, RECIPE, one_thread, write_split

FIGURES = ("frame accuracy", "edit", "foreground accuracy", "f1@10", "f1@25", "f1@50")
VIDEOS = ("a", "b", "c", "d")


@pytest.fixture(scope="module")
def options(tmp_path_factory):
    """What follows `factseg` to train a tiny imported data set of two splits."""
    root = tmp_path_factory.mktemp("benchmark")
    for name in ("features", "groundTruth", "splits"):
        (root / name).mkdir()
    directions = 3 * np.eye(len(CLASSES), 6)
    for seed, video in enumerate(VIDEOS):
        rng = np.random.default_rng(seed)
        labels = np.repeat(rng.permutation(np.tile(np.arange(3), 2)), rng.integers(9, 16, 6))
        rows = directions[labels] + 0.5 * rng.standard_normal((len(labels), 6))
        np.save(root / "features" / f"{video}.npy", rows.T.astype(np.float32))
        (root / "groundTruth" / f"{video}.txt").write_text("".join(f"{CLASSES[i]}\n" for i in labels))
    (root / "mapping.txt").write_text("".join(f"{index} {name}\n" for index, name in enumerate(CLASSES)))
    write_split(root, train="abc", test="d", name="split1")
    write_split(root, train="bcd", test="a", name="split2")
    (root / "tiny.yaml").write_text(RECIPE)
    import_mstcn(MstcnFolder.at(root), name="tea", store=Store(root / "store"))
    return [
        *("benchmark", "tea", "--store", str(root / "store"), "--device", "cpu"),
        *("--model", "fact", "--recipe", str(root / "tiny.yaml"), "--epochs", "3"),
    ]


def printed(capsys, *arguments):
    with one_thread():
        assert run_command(list(arguments)) == 0
    return capsys.readouterr().out


def test_the_table_has_a_row_for_each_split_and_the_means_that_arithmetic_gives(options, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    options = [*options, "--seeds", "0,1"]
    first = json.loads(printed(capsys, *options, "--json"))
    assert [(row["split"], row["seed"], row["trained"]) for row in first["rows"]] == [
        (split, seed, True) for split in ("split1", "split2") for seed in (0, 1)
    ]
    # Nothing is trained a second time, and both forms say the same.
    table = printed(capsys, *options)
    assert not any(row["trained"] for row in json.loads(printed(capsys, *options, "--json"))["rows"])
    lines = [[cell.strip() for cell in re.split("[│┃]", line)[1:-1]] for line in table.splitlines()]
    cells = {line[0]: line[1:] for line in lines if line}
    names = cells["split"]
    assert set(names) == set(FIGURES)
    assert "Scores on the test videos, in percent" in table
    scores = {
        split: [row["scores"] for row in first["rows"] if row["split"] == split]
        for split in ("split1", "split2")
    }
    for place, name in enumerate(names):
        means = [statistics.fmean(one[name] for one in rows) for rows in scores.values()]
        assert [cells[split][place] for split in scores] == [f"{mean:.1f}" for mean in means]
        over_splits = f"{statistics.fmean(means):.1f} ± {statistics.stdev(means):.1f}"
        assert cells["mean ± deviation over splits"][place] == over_splits
        by_seed = [
            statistics.fmean(row["scores"][name] for row in first["rows"] if row["seed"] == seed)
            for seed in (0, 1)
        ]
        over_seeds = f"{statistics.fmean(by_seed):.1f} ± {statistics.stdev(by_seed):.1f}"
        assert cells["mean ± deviation over seeds"][place] == over_seeds


def test_some_splits_may_be_named_and_a_single_seed_has_no_row_of_seeds(options, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    table = printed(capsys, *options, "--splits", "split2", "--seeds", "1")
    assert "split2" in table
    assert "split1" not in table
    assert "over seeds" not in table


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--splits", "split7"), "has no split 'split7'; it has split1, split2"),
        (("--seeds", "one"), "seeds"),
    ],
)
def test_what_cannot_be_run_is_one_sentence(options, capsys, arguments, words):
    assert run_command([*options, *arguments]) != 0
    assert words in capsys.readouterr().err


def test_a_folder_is_to_be_imported_first(tmp_path, capsys):
    assert run_command(["benchmark", str(tmp_path), "--store", str(tmp_path / "store")]) != 0
    assert "factseg import mstcn" in capsys.readouterr().err
