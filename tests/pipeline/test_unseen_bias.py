"""How far unseen classes are favoured: by what served others, each held out of a training of its own."""

import dataclasses

import numpy as np
import pytest
import torch

from pipeline.dataset import load_features
from pipeline.errors import SettingsError
from pipeline.import_mstcn import MstcnFolder, import_mstcn
from pipeline.metrics import LabelledPrediction
from pipeline.metrics_zero_shot import evaluate_generalized
from pipeline.model import load_model, read_description
from pipeline.settings import DatasetSettings, EvaluateSettings, RunSettings
from pipeline.settings_training import TrainingSettings
from pipeline.train import find_trained, train
from pipeline.train_plan import plan_run
from pipeline.unseen_bias import BIASES, settle_unseen_bias
from storage.store import Store
from tests.pipeline.tiny import RECIPE, write_split

pytestmark = pytest.mark.usefixtures("single_thread")

WIDTH = 8
VERBS, NOUNS = ("cut", "take", "wash"), ("bread", "ham", "leek")
CLASSES = tuple(f"{verb} {noun}" for verb in VERBS for noun in NOUNS)
UNSEEN = CLASSES.index("take ham")


class WordVectors:
    """Instead of a text tower: an axis for each word."""

    name = "ViT-B-32"

    def encode_texts(self, texts):
        return np.array([[word in text for word in VERBS + NOUNS] for text in texts], dtype=np.float32)


@pytest.fixture
def settings(tmp_path, monkeypatch):
    """Ten videos that show every class, one class held out, and the bias to be chosen by two others."""
    monkeypatch.setattr("pipeline.clip.load_clip", lambda _weights, **_device: WordVectors())
    root, store = tmp_path / "data", tmp_path / "store"
    for name in ("features", "groundTruth", "splits"):
        (root / name).mkdir(parents=True)
    words = dict(zip(VERBS + NOUNS, np.random.default_rng(7).standard_normal((6, WIDTH)), strict=True))
    directions = np.stack([words[verb] + words[noun] for verb in VERBS for noun in NOUNS])
    names = [f"v{index}" for index in range(10)]
    for index, video in enumerate(names):
        rng = np.random.default_rng(index)
        labels = np.repeat(rng.permutation(9), rng.integers(9, 16, 9))
        rows = directions[labels] + 0.3 * rng.standard_normal((len(labels), WIDTH))
        np.save(root / "features" / f"{video}.npy", rows.T.astype(np.float32))
        (root / "groundTruth" / f"{video}.txt").write_text("".join(f"{CLASSES[i]}\n" for i in labels))
    (root / "mapping.txt").write_text("".join(f"{index} {name}\n" for index, name in enumerate(CLASSES)))
    recipe = RECIPE.replace("bg_class: [0]", "bg_class: []").replace("CLIP: {", "CLIP: {switch_cost: 1, ")
    (root / "tiny.yaml").write_text(recipe)
    write_split(root, train=names[:-1], test=names[-1:])
    import_mstcn(MstcnFolder.at(root), name="lunch", store=Store(store))
    return RunSettings(
        store=store,
        dataset=DatasetSettings(imported="lunch"),
        extraction={"device": "cpu", "weights": "random"},
        training=TrainingSettings(
            model="fact-clip",
            recipe=str(root / "tiny.yaml"),
            epochs=30,
            unseen=(CLASSES[UNSEEN],),
            unseen_folds=2,
        ),
    )


def changed(settings, **training):
    return settings.model_copy(update={"training": settings.training.model_copy(update=training)})


def test_the_bias_is_the_one_that_found_other_classes_best(settings):
    store = Store(settings.store)
    folds = []

    def run_of(fold):
        folds.append(fold)
        return train(fold).run

    chosen, (sentence,) = settle_unseen_bias(settings, store=store, run_of=run_of)
    assert len(folds) == 2
    totals = np.zeros(len(BIASES))
    for fold in folds:
        held_out = [name for name in fold.training.unseen if name != CLASSES[UNSEEN]]
        assert len(fold.training.unseen) == 2
        assert repr(held_out[0]) in sentence
        totals += [independent_score(fold, held_out[0], bias, store=store) for bias in BIASES]
    assert chosen.training.unseen_bias == BIASES[int(totals.argmax())]
    assert totals.max() > totals[0]
    assert f"favoured by {chosen.training.unseen_bias:g} nats" in sentence


def independent_score(fold, name, bias, *, store):
    """By the public evaluation over predictions of a model whose configuration has the bias."""
    plan, _ = plan_run(fold, store=store)
    model = load_model(store.run_folder(train(fold).run), device=torch.device("cpu"))
    config = model.network.config
    model.network.config = dataclasses.replace(
        config, clip=dataclasses.replace(config.clip, unseen_bias=bias)
    )
    predictions = []
    for source in plan.validation:
        times = source.video.facts.frame_times
        loaded = load_features(source.stored, sample_rate=1, store=store)
        assert len(loaded.features) == len(times) == len(source.labels)
        labels = model.predict(loaded.features).labels_T
        counts = source.labels != UNSEEN
        predictions.append(
            LabelledPrediction(
                video_id=source.video.id, truth=source.labels[counts], predicted=labels[counts]
            )
        )
    scores = evaluate_generalized(predictions, unseen=[CLASSES.index(name)], class_names=CLASSES)
    figures = [scores.harmonic.frame_accuracy, *scores.harmonic.f1.values()]
    return float(np.mean([figure or 0.0 for figure in figures]))


def test_the_run_keeps_the_bias_and_is_found_again(settings):
    outcome = train(settings)
    described = read_description(Store(settings.store).run_folder(outcome.run))
    assert any("favoured by" in note for note in outcome.notes)
    assert described.config.clip.unseen_bias in BIASES
    given = changed(settings, unseen_folds=0, unseen_bias=described.config.clip.unseen_bias)
    assert train(given).run == outcome.run
    assert not train(settings).trained
    assert find_trained(EvaluateSettings(**dict(settings))) == outcome.run


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"unseen": ()}, "none is held out"),
        ({"model": "fact", "allow_unseen": True}, "no texts to find them by"),
        ({"unseen": CLASSES[1:]}, "of 1 that are trained on"),
    ],
)
def test_where_nothing_can_be_chosen_it_is_an_error(settings, changes, words):
    with pytest.raises(SettingsError, match=words):
        train(changed(settings, **changes))


def test_a_bias_is_given_or_chosen():
    with pytest.raises(ValueError, match="leave out one"):
        TrainingSettings(unseen=("a",), unseen_folds=2, unseen_bias=1.0)
