"""Class names become vectors once; what is stored is read, and only that of the very same prompt."""

import numpy as np
import pytest

from pipeline.settings import ExtractionSettings, TextSettings
from pipeline.texts import embed_classes, prompts_for
from storage.errors import CorruptArtefactError
from storage.store import Store

RANDOM = ExtractionSettings(features=("clip",), weights="random", device="cpu")
NAMES = ("pour_milk", "stir", "background")


class FakeClip:
    """Instead of a network: a vector that tells the prompt, and a list of what was asked."""

    name = "ViT-B-32"

    def __init__(self):
        self.asked = []

    def encode_texts(self, prompts):
        self.asked += prompts
        return np.array([[len(prompt), sum(prompt.encode())] for prompt in prompts], dtype=np.float32)


@pytest.fixture
def clip(monkeypatch):
    fake = FakeClip()
    monkeypatch.setattr("pipeline.clip.load_clip", lambda _weights, **_device: fake)
    return fake


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


def embed(store, names=NAMES, **text):
    return embed_classes(names, text=TextSettings(**text), extraction=RANDOM, store=store)


def test_prompts_show_underscores_as_blanks_and_nothing_else_is_formatted():
    assert prompts_for(["pour_milk", "{x}"], template="see {label}!") == ("see pour milk!", "see {x}!")


def test_every_class_gets_the_vector_of_its_prompt_in_order(store, clip):
    texts = embed(store, prompt="do {label}")
    assert texts.prompts == ("do pour milk", "do stir", "do background")
    assert texts.vectors.tolist() == [[len(text), sum(text.encode())] for text in texts.prompts]
    assert (texts.num_encoded, texts.random_weights) == (3, True)
    assert "seeded random weights" in texts.notices[0]
    assert clip.asked == list(texts.prompts)


def test_only_what_is_not_stored_is_encoded(store, clip):
    first = embed(store)
    again = embed(store)
    assert again.num_encoded == 0
    assert again.vectors.tolist() == first.vectors.tolist()
    more = embed(store, names=("stir", "drink"))
    assert more.num_encoded == 1
    assert clip.asked[3:] == ["a video of a person who will drink"]


@pytest.mark.usefixtures("clip")
def test_another_prompt_or_model_is_encoded_for_itself(store):
    embed(store)
    assert embed(store, prompt="see {label}").num_encoded == 3
    assert embed(store, model="RN50").num_encoded == 3


@pytest.mark.usefixtures("clip")
def test_classes_with_one_prompt_share_its_vector(store):
    texts = embed(store, names=("a_b", "a b"))
    assert (texts.vectors[0] == texts.vectors[1]).all()


@pytest.mark.usefixtures("clip")
def test_a_damaged_embedding_is_named_with_the_remedy(store):
    embed(store)
    path = min((store.root / "texts").glob("*.parquet"))
    path.write_bytes(b"half")
    with pytest.raises(CorruptArtefactError, match="Delete it") as caught:
        embed(store)
    assert str(path) in str(caught.value)
