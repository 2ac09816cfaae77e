"""A model is its two files: what is read back predicts the same, and damage is named."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fact.config import parse_config
from pipeline.model import (
    DESCRIPTION_FILE,
    WEIGHTS_FILE,
    FeatureInput,
    ModelDescription,
    TextInput,
    TrainedModel,
    load_model,
    read_description,
    save_model,
)
from pipeline.standardize import Standardisation
from storage.errors import CorruptArtefactError, MissingArtefactError

CPU = torch.device("cpu")
CONFIG = {
    "FACT": {"ntoken": 6, "block": "iuU"},
    "Bi": {
        "hid_dim": 32,
        "a_dim": 16,
        "a_ffdim": 32,
        "a_nhead": 2,
        "a_layers": 1,
        "f_dim": 16,
        "f_layers": 2,
    },
    "TM": {"inplace": True},
}


def describe(*, kind="fact", random_weights=False):
    text = TextInput(
        model="ViT-B-32", weights_digest="e" * 64, random_weights=random_weights, prompts=("a", "b", "c")
    )
    return ModelDescription(
        kind=kind,
        config=parse_config({**CONFIG, "use_clip": kind == "fact-clip"}),
        class_names=("background", "pour milk", "rührén"),
        background=(0,),
        inputs=(
            FeatureInput(spec="i3d-rgb", width=5, weights_digest="d" * 64, random_weights=random_weights),
            FeatureInput(
                spec="clip:stride=2", width=3, weights_digest="c" * 64, random_weights=random_weights
            ),
        ),
        text=text if kind == "fact-clip" else None,
    )


def make_model(kind="fact"):
    torch.manual_seed(3)
    described = describe(kind=kind)
    texts = torch.nn.functional.normalize(torch.randn(3, 512), dim=1) if kind == "fact-clip" else None
    rows = np.random.default_rng(0).standard_normal((50, 8)).astype(np.float32) * 3 + 1
    return TrainedModel(
        description=described, network=described.build(texts), standardisation=Standardisation.of([rows])
    )


@pytest.fixture
def saved(tmp_path):
    save_model(tmp_path / "run", make_model())
    return tmp_path / "run"


@pytest.mark.parametrize("kind", ["fact", "fact-clip"])
def test_a_model_read_back_predicts_the_same(tmp_path, kind):
    model = make_model(kind)
    save_model(tmp_path, model)
    again = load_model(tmp_path, device=CPU)
    features = np.random.default_rng(1).standard_normal((23, 8)).astype(np.float32)
    ours, theirs = model.predict(features), again.predict(features)
    np.testing.assert_array_equal(ours.labels_T, theirs.labels_T)
    np.testing.assert_array_equal(ours.confidence_T, theirs.confidence_T)
    assert again.description == model.description


def test_a_prediction_has_a_class_and_a_confidence_for_every_step():
    prediction = make_model().predict(np.ones((9, 8), np.float32))
    assert prediction.labels_T.shape == prediction.confidence_T.shape == (9,)
    assert set(prediction.labels_T.tolist()) <= {0, 1, 2}
    assert ((prediction.confidence_T > 0) & (prediction.confidence_T <= 1)).all()


def test_predicting_twice_gives_the_same_even_straight_after_training():
    model = make_model()
    model.network.train()
    features = np.random.default_rng(2).standard_normal((15, 8)).astype(np.float32)
    np.testing.assert_array_equal(model.predict(features).confidence_T, model.predict(features).confidence_T)


def test_the_description_says_how_the_input_is_joined_and_can_be_read_alone(saved):
    (saved / WEIGHTS_FILE).unlink()
    assert read_description(saved) == describe()
    assert "nearest in time" in json.loads((saved / DESCRIPTION_FILE).read_text())["join"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is malformed"),
        ("[]", "is malformed"),
        ("3", "is malformed"),
        ('{"layout": "model/9"}', "is not of layout"),
        ('{"layout": "model/1"}', "is malformed"),
        ("{}", "is malformed"),
    ],
)
def test_a_damaged_description_is_named_with_the_remedy(saved, content, message):
    (saved / DESCRIPTION_FILE).write_text(content)
    with pytest.raises(CorruptArtefactError, match=message) as caught:
        load_model(saved, device=CPU)
    assert str(caught.value).startswith(str(saved / DESCRIPTION_FILE))


@pytest.mark.parametrize(
    "change",
    [{"inputs": [{"width": 5}]}, {"config": {"FACT": {"ntokens": 3}}}, {"kind": "fact", "text": "x"}],
)
def test_a_description_with_strange_values_is_corrupt(saved, change):
    values = json.loads((saved / DESCRIPTION_FILE).read_text()) | change
    (saved / DESCRIPTION_FILE).write_text(json.dumps(values))
    with pytest.raises(CorruptArtefactError, match="is malformed"):
        read_description(saved)


def cut(content):
    return content[: len(content) // 2]


@pytest.mark.parametrize("damage", [cut, lambda _: b"", lambda content: b"\xff" * 16 + content[16:]])
def test_damaged_weights_are_named_with_the_remedy(saved, damage):
    path = saved / WEIGHTS_FILE
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(CorruptArtefactError, match=r"cannot be read .*Run `factseg train` again") as caught:
        load_model(saved, device=CPU)
    assert str(caught.value).startswith(str(path))


def test_weights_of_another_model_do_not_fit(saved):
    values = json.loads((saved / DESCRIPTION_FILE).read_text())
    values["inputs"][0]["width"] = 6
    (saved / DESCRIPTION_FILE).write_text(json.dumps(values))
    with pytest.raises(CorruptArtefactError, match=r"does not fit model\.json"):
        load_model(saved, device=CPU)


def test_classes_beyond_the_width_are_a_description_that_does_not_fit(saved):
    values = json.loads((saved / DESCRIPTION_FILE).read_text())
    values["class_names"] = [str(index) for index in range(40)]
    (saved / DESCRIPTION_FILE).write_text(json.dumps(values))
    with pytest.raises(CorruptArtefactError, match=r"does not fit model\.json"):
        load_model(saved, device=CPU)


def test_what_is_missing_is_named(saved, tmp_path):
    with pytest.raises(MissingArtefactError, match=r"No model at .*factseg train"):
        load_model(tmp_path / "nothing", device=CPU)
    (saved / WEIGHTS_FILE).unlink()
    with pytest.raises(MissingArtefactError, match="No weights at"):
        load_model(saved, device=CPU)


def test_random_weights_are_said_once_for_each_part():
    sentences = describe(kind="fact-clip", random_weights=True).notices
    assert len(sentences) == 3
    assert "clip:stride=2" in sentences[1]
    assert "ViT-B-32" in sentences[2]
    assert describe(kind="fact-clip").notices == ()


def test_standardisation_is_that_of_all_steps_of_all_videos_together():
    rng = np.random.default_rng(4)
    videos = [(rng.standard_normal((n, 6)) * 5 + 100).astype(np.float32) for n in (3, 40, 17)]
    together = np.concatenate(videos).astype(np.float64)
    found = Standardisation.of(videos)
    np.testing.assert_allclose(found.mean_D, together.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(found.scale_D, together.std(axis=0), rtol=1e-6)
    expected = (together - together.mean(axis=0)) / together.std(axis=0)
    np.testing.assert_allclose(np.concatenate([found.apply(rows) for rows in videos]), expected, atol=1e-4)


def test_by_video_every_video_is_standardised_by_its_own_steps():
    rng = np.random.default_rng(6)
    rule = Standardisation.by_video(4)
    for shift, scale in ((0.0, 1.0), (50.0, 0.1)):
        rows = (rng.standard_normal((80, 4)) * scale + shift).astype(np.float32)
        found = rule.apply(rows).numpy()
        np.testing.assert_allclose(found.mean(axis=0), 0.0, atol=1e-4)
        np.testing.assert_allclose(found.std(axis=0), 1.0, rtol=1e-4)


@pytest.mark.parametrize("value", [0.0, 0.1, -12345.678, 1e-8, 3e30])
def test_a_constant_channel_keeps_its_scale(value):
    found = Standardisation.of([np.full((1000, 1), value, np.float32)])
    assert found.scale_D.tolist() == [1.0]
    assert found.apply(np.full((5, 1), value, np.float32)).abs().max() <= abs(value) * 1e-6


@pytest.mark.parametrize("size", [1e-8, 1e-20, 1e20])
def test_a_channel_is_standardised_however_small_or_large_it_is(size):
    rows = (np.random.default_rng(5).standard_normal((500, 2)) * size).astype(np.float32)
    found = Standardisation.of([rows]).apply(rows).numpy()
    np.testing.assert_allclose(found.std(axis=0), 1.0, rtol=1e-4)


@given(
    arrays(
        np.float32,
        st.tuples(st.integers(1, 12), st.integers(1, 3)),
        elements=st.floats(-65504, 65504, width=32, allow_subnormal=True),
    )
)
def test_standardised_training_features_are_always_finite(rows):
    assert torch.isfinite(Standardisation.of([rows]).apply(rows)).all()


def test_the_text_part_of_a_description_survives_the_file(tmp_path):
    save_model(tmp_path, make_model("fact-clip"))
    assert dataclasses.asdict(read_description(tmp_path))["text"]["prompts"] == ("a", "b", "c")
