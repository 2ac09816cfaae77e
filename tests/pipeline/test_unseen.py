"""Classes held out of training: nothing of them reaches the weights, and the scores tell seen from unseen."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from pipeline.errors import DatasetError, SettingsError
from pipeline.evaluate import evaluate_run
from pipeline.import_mstcn import MstcnFolder, import_mstcn
from pipeline.settings import DatasetSettings, RunSettings
from pipeline.settings_training import TrainingSettings
from pipeline.train import train
from pipeline.train_plan import plan_run
from storage.folders import read_manifest
from storage.store import Store
from tests.pipeline.tiny import CLASSES, RECIPE, write_split

pytestmark = pytest.mark.usefixtures("single_thread")

WIDTH = 6
STIR = CLASSES.index("stir")
VIDEOS = {"a1": (0, 2, 1, 2, 0), "a2": (2, 0, 1), "b1": (1, 2, 1, 0), "b2": (0, 1, 2), "x1": (0, 2, 1)}
"""Classes of each video's segments; ``x1`` is for the test."""


def write_dataset(root, *, videos=VIDEOS, cut=None):
    """Features that tell their class, in the MS-TCN layout; rows of the class ``cut`` are taken out of the files."""
    for name in ("features", "groundTruth", "splits"):
        (root / name).mkdir(parents=True)
    directions = np.random.default_rng(7).standard_normal((len(CLASSES), WIDTH))
    for video, order in videos.items():
        rng = np.random.default_rng(sum(video.encode()))
        labels = np.repeat(order, rng.integers(9, 16, len(order)))
        rows = (directions[labels] + 0.3 * rng.standard_normal((len(labels), WIDTH))).astype(np.float32)
        if cut is not None and not video.startswith("x"):
            rows, labels = rows[labels != cut], labels[labels != cut]
        np.save(root / "features" / f"{video}.npy", rows.T)
        (root / "groundTruth" / f"{video}.txt").write_text("".join(f"{CLASSES[i]}\n" for i in labels))
    (root / "mapping.txt").write_text("".join(f"{index} {name}\n" for index, name in enumerate(CLASSES)))
    write_split(
        root,
        train=[name for name in videos if not name.startswith("x")],
        test=[name for name in videos if name.startswith("x")],
    )
    return MstcnFolder.at(root)


@pytest.fixture
def make(tmp_path):
    """A function that writes and imports a data set of its own and gives the settings to train on it."""

    def made(name="tea", *, videos=VIDEOS, cut=None, recipe=RECIPE, **training):
        root, store = tmp_path / name, tmp_path / f"{name}-store"
        import_mstcn(write_dataset(root, videos=videos, cut=cut), name=name, store=Store(store))
        (root / "tiny.yaml").write_text(recipe)
        given = {
            "model": "fact",
            "recipe": str(root / "tiny.yaml"),
            "epochs": 3,
            "allow_unseen": True,
            **training,
        }
        return RunSettings(
            store=store,
            dataset=DatasetSettings(imported=name),
            extraction={"device": "cpu", "weights": "random"},
            training=TrainingSettings(**given),
        )

    return made


def ran(settings):
    folder = Store(settings.store).run_folder(train(settings).run)
    return load_file(folder / "model.safetensors"), read_manifest(folder)["validation"]["scores"]


def same_bits(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("how", [{}, {"standardize": False}, {"preload": "off", "loader_workers": 0}])
def test_a_held_out_class_trains_the_weights_of_videos_it_was_cut_out_of(make, how):
    """The files of the second data set never had it: what is equal to the bit cannot have seen it."""
    held_out = {"unseen": ("stir",), "validation_groups": "^(.)", **how}
    full, cut = ran(make(**held_out)), ran(make("cut", cut=STIR, **held_out))
    assert same_bits(full[0], cut[0])
    assert full[1] == cut[1] != {}
    assert not same_bits(full[0], ran(make("all", **{**held_out, "unseen": ()}))[0])


def test_tokens_and_null_weight_come_from_seen_segments_alone(make):
    settings = make(unseen=("stir",), validation_groups="^(.)")
    auto = settings.training.model_copy(update={"recipe": "auto", "epochs": 1, "batch_size": 1})
    plan, _ = plan_run(settings.model_copy(update={"training": auto}), store=Store(settings.store))
    # Of 0 2 1 2 0 are left 0 1 0, of 1 2 1 0 only 1 0: two segments of a class beside each other are one.
    kept = {"a1": 3, "a2": 2, "b1": 2, "b2": 2}
    assert {source.video.id: source.num_segments for source in plan.used} == kept
    assert plan.mean_segments == np.mean([kept[source.video.id] for source in plan.sources])


def test_no_training_video_left_names_the_classes(make):
    videos = {"a1": (0, 1, 0), "b1": (1, 0), "x1": (0, 2, 1)}
    with pytest.raises(
        DatasetError,
        match=r"No training video is left after holding out 'background', 'pour milk': none of the 2 has .* another",
    ):
        train(make(videos=videos, unseen=("background", "pour milk")))


def test_a_video_of_nothing_else_is_left_out_and_named(make):
    outcome = train(make(videos={**VIDEOS, "b2": (2,)}, unseen=("stir",)))
    assert "Held out of training: 'stir'." in outcome.notes
    assert "1 of 4 training videos show nothing else and are left out: b2." in outcome.notes


@pytest.mark.parametrize(
    ("unseen", "words"),
    [
        (("stirr",), r"--unseen: Class 'stirr' is not in the mapping.*'stir'"),
        (CLASSES, "All 3 classes of .* unseen"),
    ],
)
def test_classes_that_cannot_be_held_out_are_an_error(make, unseen, words):
    with pytest.raises(SettingsError, match=words):
        train(make(unseen=unseen))


def test_a_fact_file_names_them_by_number_and_options_win(make):
    by_number = RECIPE + f"holdout_mode: true\nholdout_classes: [{STIR}]\n"
    one, other = make(recipe=by_number), make("other", recipe=by_number, unseen=("pour milk",))
    assert same_bits(ran(one)[0], ran(make("named", unseen=("stir",)))[0])
    plan, _ = plan_run(other, store=Store(other.store))
    assert plan.description.config.unseen_classes == (1,)
    beyond = make("beyond", recipe=by_number.replace(f"[{STIR}]", "[9]"))
    with pytest.raises(SettingsError, match=r"holdout_classes 9 is not a class .*3 classes.*--unseen"):
        train(beyond)


class WordVectors:
    """Instead of a text tower: each class its own axis, whatever is written around its name."""

    name = "ViT-B-32"

    def encode_texts(self, texts):
        return np.array([[name in text for name in CLASSES] for text in texts], dtype=np.float32)


@pytest.fixture
def texts(monkeypatch):
    monkeypatch.setattr("pipeline.clip.load_clip", lambda _weights, **_device: WordVectors())


@pytest.mark.usefixtures("texts")
def test_a_model_with_texts_is_scored_on_seen_and_unseen_classes_apart(make):
    settings = make(model="fact-clip", unseen=("stir",), allow_unseen=False)
    outcome = evaluate_run(settings, run=train(settings).run)
    for scores in outcome.zero_shot.values():
        assert scores["seen"]["frame accuracy"] is not None
        assert scores["unseen"]["frame accuracy"] is not None


@pytest.mark.usefixtures("texts")
def test_a_class_that_nothing_teaches_is_said_where_texts_could_find_it(make):
    videos = {name: tuple(index for index in order if index != STIR) for name, order in VIDEOS.items()}
    (note,) = (note for note in train(make(videos=videos, model="fact-clip")).notes if "'stir'" in note)
    assert note.startswith("No training video has 'stir'")
    assert "--unseen" in note


@pytest.mark.usefixtures("texts")
def test_the_contrastive_loss_of_tokens_trains_their_projection(make):
    def trained(weight, epochs):
        recipe = RECIPE.replace("CLIP: {", f"CLIP: {{token_contrastive_weight: {weight}, ")
        return ran(
            make(f"w{weight}-{epochs}".replace(".", "-"), recipe=recipe, model="fact-clip", epochs=epochs)
        )[0]

    without, first, later = trained(0.0, 1), trained(0.5, 1), trained(0.5, 3)
    projection = {name for name in later if name.startswith("network.token_projection.")}
    assert later.keys() - without.keys() == projection
    assert len(projection) == 6
    assert not any(torch.equal(first[name], later[name]) for name in projection)
