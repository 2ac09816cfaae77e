"""Held-out videos: whole groups of the training part, and the weights of their best score are kept."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from pipeline.dataset import find_stored
from pipeline.errors import SettingsError
from pipeline.inputs import inputs_of_model
from pipeline.metrics import LabelledPrediction, evaluate
from pipeline.model import load_model
from pipeline.predict import predict_frames
from pipeline.run_files import read_curves
from pipeline.train import train
from pipeline.validation import hold_out, is_better
from storage.folders import read_manifest
from storage.store import Store
from tests.pipeline.tiny import CLASSES

pytestmark = pytest.mark.usefixtures("single_thread")

IDS = [f"{person}_{take}" for person in ("ann", "bob", "cyd", "dan") for take in (1, 2)]


def sources(ids=IDS):
    return [SimpleNamespace(video=SimpleNamespace(id=name)) for name in ids]


def held(groups=r"^(\w+)_\d", *, count=1, split="split1"):
    parted = hold_out(sources(), groups=groups, count=count, split=split)
    chosen = [source.video.id for source in parted.validation]
    assert sorted(chosen + [source.video.id for source in parted.train]) == sorted(IDS)
    return chosen


def test_all_videos_of_a_group_are_held_out_together():
    for count in (1, 2, 3):
        names = held(count=count)
        assert len(names) == 2 * count
        assert {name[:-2] + end for name in names for end in ("_1", "_2")} == set(names)


def test_which_groups_depends_on_the_split_and_nothing_else():
    chosen = {split: held(split=split) for split in map("split{}".format, range(9))}
    assert chosen == {split: held(split=split) for split in chosen}
    assert len({tuple(names) for names in chosen.values()}) > 1


def test_a_file_lists_the_videos_to_hold_out(tmp_path):
    path = tmp_path / "held.bundle"
    path.write_text("bob_1.txt\n\ndan_2\n")
    assert held(str(path)) == ["bob_1", "dan_2"]


@pytest.mark.parametrize(
    ("groups", "count", "message"),
    [
        (
            r"^(\w+)_\d",
            4,
            r"--validation-count 4: .* finds 4 groups in 8 training videos \(ann, bob, cyd, dan\)",
        ),
        ("_", 1, r"finds 1 group in 8 training videos"),
        ("ann", 1, r"finds no group in the video id 'bob_1'"),
        ("(", 1, "neither a file nor a regular expression"),
    ],
)
def test_groups_that_do_not_fit_name_what_was_asked_and_what_is_there(groups, count, message):
    with pytest.raises(SettingsError, match=message):
        held(groups, count=count)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("eve_1\n", r"names 'eve_1', which is not among the 8"),
        ("\n", "names none of"),
        ("\n".join(IDS), "all 8 training"),
    ],
)
def test_a_file_that_does_not_fit_is_named(tmp_path, text, message):
    path = tmp_path / "held.bundle"
    path.write_text(text)
    with pytest.raises(SettingsError, match=rf"--validation-groups .*held\.bundle.* {message}"):
        held(str(path))


def test_f1_at_50_decides_and_accuracy_where_it_is_equal():
    def scores(f1, accuracy):
        return {"f1@50": f1, "frame accuracy": accuracy}

    assert is_better(scores(1, 1), {})
    assert is_better(scores(2, 1), scores(1, 9))
    assert is_better(scores(2, 2), scores(2, 1))
    assert not is_better(scores(2, 1), scores(2, 1))
    assert not is_better(scores(1, 9), scores(2, 1))


def test_the_kept_weights_are_those_of_the_best_validation(tiny, own_store, tmp_path):
    path = tmp_path / "held.txt"
    path.write_text("b\n")
    run = train(tiny.settings(own_store, epochs=6, validation_groups=str(path))).run
    store = Store(own_store)
    facts = read_manifest(store.run_folder(run))["validation"]
    curves = read_curves(store.run_folder(run))
    assert facts["videos"] == ["b"]
    assert facts["scores"]["f1@50"] == max(row["validation f1@50"] for row in curves)
    assert facts["scores"]["frame accuracy"] == curves[facts["epoch"] - 1]["validation frame accuracy"]
    model = load_model(store.run_folder(run), device=torch.device("cpu"))
    stored = find_stored(
        tiny.root / "videos" / "b.mp4", inputs=inputs_of_model(model.description.inputs), store=store
    )
    truth = tiny.labels_of("b").astype(np.int64)
    predicted = predict_frames(stored, model=model, store=store).labels
    video = LabelledPrediction(video_id="b", truth=truth, predicted=predicted)
    again = evaluate([video], class_names=CLASSES)
    assert again.f1[50] == pytest.approx(facts["scores"]["f1@50"])
    assert again.frame_accuracy == pytest.approx(facts["scores"]["frame accuracy"])


def test_training_stops_when_validation_no_longer_gains(tiny, own_store, monkeypatch):
    figures = iter([50.0, 60.0, 60.0, 55.0, 70.0])
    monkeypatch.setattr(
        "pipeline.train_loop.validate",
        lambda *_, **__: {"f1@50": next(figures), "frame accuracy": 1.0},
    )
    outcome = train(tiny.settings(own_store, epochs=9, batch_size=1, validation_groups=".", patience=2))
    facts = read_manifest(Store(own_store).run_folder(outcome.run))["validation"]
    assert (outcome.epochs, facts["epoch"], facts["scores"]["f1@50"]) == (4, 2, 60.0)


def test_patience_without_held_out_videos_is_an_error(tiny, own_store):
    with pytest.raises(SettingsError, match=r"--patience 3 stops when .* no video is held out"):
        train(tiny.settings(own_store, patience=3))
