"""A class held out of training, as it is asked for on the command line."""

import json

import pytest

from flows.cli import run_command
from tests.pipeline.test_unseen import WordVectors, write_dataset
from tests.pipeline.tiny import RECIPE, one_thread


@pytest.fixture
def ready(tmp_path, monkeypatch):
    """A store with an imported data set, a recipe file, and a text tower that needs no weights."""
    monkeypatch.setattr("pipeline.clip.load_clip", lambda _weights, **_device: WordVectors())
    monkeypatch.chdir(tmp_path)
    write_dataset(tmp_path / "tea")
    (tmp_path / "tiny.yaml").write_text(RECIPE)
    assert run_command(["import", "mstcn", "tea", "--store", "store"]) == 0


@pytest.mark.slow
@pytest.mark.usefixtures("ready")
def test_the_same_options_train_and_score_with_classes_held_out(capsys):
    options = [
        "--dataset",
        "tea",
        "--store",
        "store",
        "--recipe",
        "tiny.yaml",
        "--epochs",
        "1",
        "--weights",
        "random",
    ]
    options += ["--device", "cpu", "--unseen", "stir", "--unseen", "background", "--direct", "--json"]
    with one_thread():
        assert run_command(["train", *options]) == 0
        said = capsys.readouterr()
        assert "Held out of training: 'background', 'stir'." in said.err
        assert run_command(["evaluate", *options]) == 0
    scores = json.loads(capsys.readouterr().out)["zero_shot"]["mstcn"]
    assert set(scores) == {"seen", "unseen", "harmonic"}


@pytest.mark.usefixtures("ready")
def test_a_class_that_is_not_there_is_an_error_that_names_the_nearest(capsys):
    options = ["--dataset", "tea", "--store", "store", "--weights", "random", "--unseen", "stirr", "--direct"]
    assert run_command(["train", *options]) == 2
    assert "--unseen: Class 'stirr' is not in the mapping" in capsys.readouterr().err
