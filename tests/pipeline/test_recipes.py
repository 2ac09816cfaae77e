"""Recipes: from settings and FACT's own files to the configuration that trains."""

import logging
import math
from pathlib import Path

import pytest

from fact.config import RECIPES
from pipeline.errors import SettingsError
from pipeline.labels import ClassList
from pipeline.recipes import background_ids, resolve_config
from pipeline.settings import DatasetSettings
from pipeline.settings_reading import build_settings
from pipeline.settings_training import TrainingSettings

CLASSES = ClassList(("background", "pour", "stir"))


@pytest.fixture
def recipe_file(tmp_path):
    def write(text):
        path = tmp_path / "fact.yaml"
        path.write_text(text)
        return str(path)

    return write


def config_of(max_segments=4, **training):
    settings = build_settings(TrainingSettings, training, source="settings")
    return resolve_config(settings, max_segments=max_segments)


@pytest.mark.parametrize("max_segments", [1, 6, 7, 8, 9, 33])
def test_auto_has_one_and_a_half_tokens_per_segment_and_at_least_ten(max_segments):
    assert config_of(max_segments).model.num_tokens == max(10, math.ceil(1.5 * max_segments))


def test_auto_is_otherwise_the_gtea_recipe():
    auto, gtea = config_of(), config_of(recipe="gtea")
    assert (auto.model.blocks, auto.training, auto.input_block) == (
        gtea.model.blocks,
        gtea.training,
        gtea.input_block,
    )


@pytest.mark.parametrize("name", RECIPES)
def test_every_published_recipe_is_known_by_its_name(name):
    assert config_of(recipe=name, model="fact").training.epochs >= 150


def test_an_unknown_recipe_lists_the_known_ones():
    with pytest.raises(SettingsError, match=r"No recipe 'gteaa'. Known: auto, .*gtea.* or a FACT file"):
        config_of(recipe="gteaa")


@pytest.mark.parametrize(("epochs", "decay"), [(400, 250), (200, 125), (8, 5), (1, 1)])
def test_fewer_epochs_keep_the_decay_in_proportion(epochs, decay):
    training = config_of(recipe="gtea", epochs=epochs).training
    assert (training.epochs, training.lr_decay) == (epochs, decay)


def test_what_is_not_overridden_stays(recipe_file):
    path = recipe_file("lr: 0.5\nbatch_size: 3\nepoch: 7\nlr_decay: -1\n")
    training = config_of(recipe=path).training
    assert (training.lr, training.batch_size, training.epochs, training.lr_decay) == (0.5, 3, 7, None)
    training = config_of(recipe=path, learning_rate=0.25, batch_size=2, epochs=9).training
    assert (training.lr, training.batch_size, training.epochs, training.lr_decay) == (0.25, 2, 9, None)


def test_a_fact_file_loads_unchanged_and_says_what_has_no_effect(recipe_file, caplog):
    path = recipe_file(
        "aux: {gpu: 1, wandb_project: x}\nFACT: {ntoken: 9, block: iuU}\nBi: {hid_dim: 64}\n"
        "CLIP: {text_trainable: true}\nTM: {use: true, inplace: true}\nsr: 2\n"
    )
    with caplog.at_level(logging.INFO):
        config = config_of(recipe=path)
    assert (config.model.num_tokens, config.segment_block.hidden_dim, config.training.sample_rate) == (
        9,
        64,
        2,
    )
    assert "TM.inplace" in caplog.text
    assert "CLIP.text_trainable" in caplog.text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("FACT: {ntokens: 9}", "ntoken"),
        ("batchsize: 9", "batch_size"),
        ("FACT: {ntoken: many}", "ntoken"),
        ("FACT: {trans: true}", "FACT.trans asks for the transcript"),
        ("FACT: {ntoken: [", "is malformed"),
    ],
)
def test_a_fact_file_that_cannot_be_used_is_an_error_that_names_it(recipe_file, text, message):
    path = recipe_file(text)
    with pytest.raises(SettingsError) as caught:
        config_of(recipe=path)
    assert path in str(caught.value)
    assert message in str(caught.value)


def test_a_missing_fact_file_is_named():
    with pytest.raises(SettingsError, match=r"gone\.yaml: the settings cannot be read"):
        config_of(recipe="gone.yaml")


@pytest.mark.parametrize(("model", "use_clip"), [("fact", False), ("fact-clip", True)])
def test_the_model_asked_for_decides_whether_texts_are_used(model, use_clip):
    assert config_of(model=model).use_clip is use_clip


def background(classes=CLASSES, *, recipe="auto", names=()):
    dataset = DatasetSettings(
        videos=Path("v"), labels=Path("l"), mapping=Path("m.txt"), splits=Path("s"), background=names
    )
    return background_ids(config_of(recipe=recipe), recipe_name=recipe, dataset=dataset, classes=classes)


def test_the_background_is_what_the_data_set_says(recipe_file):
    assert background(names=("stir", "pour")) == (2, 1)
    assert background(names=("stir",), recipe=recipe_file("bg_class: [0]")) == (2,)


def test_the_background_is_else_what_the_fact_file_says(recipe_file):
    assert background(recipe=recipe_file("bg_class: [1, 2]")) == (1, 2)


def test_the_background_is_else_the_class_of_that_name():
    assert background() == (0,)
    assert background(ClassList(("pour", "stir"))) == ()
    # A published recipe's own id belongs to its own data set.
    assert background(recipe="gtea") == (0,)


def test_a_background_class_that_is_not_there_is_an_error(recipe_file):
    with pytest.raises(SettingsError, match=r"m\.txt, background: Class 'stirr' .*nearest: 'stir'.* Correct"):
        background(names=("stirr",))
    path = recipe_file("bg_class: 3")
    with pytest.raises(SettingsError, match=r"bg_class 3 is not a class of this data set \(3 classes\)"):
        background(recipe=path)
