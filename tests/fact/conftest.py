"""Golden models, and small random ones for properties."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from fact import blocks_sep_verb_noun
from fact.blocks import FACT, FACT_CLIP
from fact.checkpoints import load_published

# The models here are so small that a second thread costs more than it brings.
torch.set_num_threads(1)

TESTS = Path(__file__).resolve().parents[1]
SHARED = TESTS.parent.parent / "shared" / "golden" / "fact"
CLONE = TESTS / "golden" / "fact"
FOLDER = SHARED if SHARED.is_dir() else CLONE


@dataclass(frozen=True, kw_only=True)
class Golden:
    about: dict
    tensors: dict

    @property
    def config(self):
        return self.about["config_full"]

    @property
    def num_classes(self):
        return self.about["n_classes"]

    @property
    def weights(self):
        prefix = "weights."
        named = self.tensors.items()
        found = {name.removeprefix(prefix): tensor for name, tensor in named if name.startswith(prefix)}
        if self.about["kind"] == "clip":
            found["text_embeddings"] = self.tensors["text_embeddings"]
        return found

    def build(self):
        """The model with the published weights, in evaluation mode."""
        about = self.about
        args = (self.config, about["in_dim"], self.num_classes)
        if about["kind"] == "svn":
            model = blocks_sep_verb_noun.FACT(
                *args[:2],
                verb_of_class=about["verb_of_class"],
                noun_of_class=about["noun_of_class"],
                n_verbs=about["n_verbs"],
                n_nouns=about["n_nouns"],
            )
        elif self.about["kind"] == "clip":
            model = FACT_CLIP(*args, text_embeddings=self.tensors["text_embeddings"])
        else:
            model = FACT(*args)
        load_published(model, self.weights)
        return model.eval()


def load_golden(path):
    about = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    return Golden(about=about, tensors=load_file(path.with_suffix(".safetensors")))


def golden_paths():
    """Every golden file, from beside the checkout where it is there."""
    source = "shared" if FOLDER == SHARED else "clone"
    for path in sorted(FOLDER.glob("*.json")):
        yield pytest.param(path, id=f"{source}-{path.stem}")


def pytest_generate_tests(metafunc):
    if "golden_path" in metafunc.fixturenames:
        metafunc.parametrize("golden_path", list(golden_paths()), scope="module")


@pytest.fixture(scope="module")
def golden(golden_path):
    return load_golden(golden_path)


@pytest.fixture(scope="session")
def small_config():
    """A function that returns a small configuration with some keys replaced: ``FACT={"block": "iu"}``."""

    def make(**sections):
        block = {"a_nhead": 2, "f_layers": 3, "f_ln": False, "f_ngp": 1}
        config = {
            "FACT": {"ntoken": 6, "block": "iuU", "fpos": False, "cmr": 0.0},
            "Bi": {
                "hid_dim": 16,
                "a_dim": 8,
                "f_dim": 8,
                "a_ffdim": 12,
                "a_layers": 2,
                "dropout": 0.0,
                **block,
            },
            "Bu": dict(block),
            "BU": dict(block),
            "Loss": {"pc": 0.2, "nullw": 0.3, "sw": 1.0},
        }
        for name, values in sections.items():
            config[name] = {**config.get(name, {}), **values} if isinstance(values, dict) else values
        return config

    return make
