"""Users' nested mappings: read, inherited, checked, written back."""

import json
from dataclasses import FrozenInstanceError, replace
from types import SimpleNamespace

import pytest

from fact.config import RECIPES, Config, auto_config, parse_config, recipe
from fact.errors import ConfigError


def test_an_empty_mapping_gives_the_defaults():
    config = parse_config({})
    assert config == Config()
    assert (config.model.num_tokens, config.model.blocks) == (30, "iuUU")
    assert (config.input_block.hidden_dim, config.input_block.action_branch) == (512, "sca")


def test_update_blocks_inherit_what_is_null_from_the_block_before():
    config = parse_config({"Bi": {"hid_dim": 64, "dropout": 0.25}, "Bu": {"a_dim": 640, "dropout": None}})
    assert (config.update_block.hidden_dim, config.update_block.dropout) == (64, 0.25)
    assert config.segment_block.token_dim == 640
    assert (config.segment_block.action_branch, config.segment_block.frame_layers) == ("sa", 5)


def test_segment_block_inherits_from_the_input_block_where_no_update_block_came_first():
    settings = {"FACT": {"block": "iUU"}, "Bu": {"f_dim": 1024}}
    assert parse_config(settings).segment_block.frame_dim == 512
    assert parse_config(settings | {"FACT": {"block": "iuU"}}).segment_block.frame_dim == 1024
    assert parse_config(settings | {"FACT": {"block": "iUu"}}).segment_block.frame_dim == 512


def test_none_as_a_string_means_null():
    config = parse_config({"feature_path": "None", "Bi": {"hid_dim": 64}, "Bu": {"hid_dim": "None"}})
    assert config.data.feature_path is None
    assert config.update_block.hidden_dim == 64


def test_numbers_that_yaml_reads_as_strings_are_numbers():
    assert parse_config({"lr": "1e-4"}).training.lr == 1e-4


def test_minus_one_means_derive_or_never():
    config = parse_config({"lr_decay": -1, "Loss": {"nullw": -1}, "average_transcript_len": 0.0})
    assert config.training.lr_decay is None
    assert config.loss.null_weight is None
    assert config.data.mean_segments is None


def test_published_training_keys_are_kept_under_our_names():
    training = parse_config({"epoch": 7, "sr": 3, "clip_grad_norm": 4, "eval_bg": True}).training
    assert (training.epochs, training.sample_rate, training.max_grad_norm) == (7, 3, 4.0)
    assert training.score_background


def test_one_background_class_or_several():
    assert parse_config({"bg_class": 10}).data.background_classes == (10,)
    assert parse_config({"bg_class": [0, 2]}).data.background_classes == (0, 2)


def test_both_names_of_a_clip_model_are_one():
    both = [parse_config({"CLIP": {"model_name": n}}) for n in ("ViT-B-32", "openai/clip-vit-base-patch32")]
    assert both[0] == both[1]


def test_keys_without_effect_are_named():
    config = parse_config({"TM": {"inplace": True}, "CLIP": {"text_trainable": False}, "aux": {"gpu": 1}})
    assert config.ignored == ("TM.inplace", "CLIP.text_trainable", "aux.gpu")


def test_held_out_classes_count_in_hold_out_mode_only():
    assert parse_config({"holdout_classes": [3]}).unseen_classes == ()
    assert parse_config({"holdout_classes": [3], "holdout_mode": True}).unseen_classes == (3,)


def test_an_object_with_the_published_keys_is_read_like_a_mapping():
    source = SimpleNamespace(FACT=SimpleNamespace(ntoken=9), lr=0.5)
    assert parse_config(source) == parse_config({"FACT": {"ntoken": 9}, "lr": 0.5})


def test_a_class_with_the_published_keys_is_read_like_a_mapping():
    class Settings:
        lr = 0.5

        class FACT:
            ntoken = 9

    assert parse_config(Settings) == parse_config({"FACT": {"ntoken": 9}, "lr": 0.5})


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_survive_the_way_through_json(name):
    config = recipe(name)
    assert parse_config(json.loads(json.dumps(config.to_mapping()))) == config


def test_golden_configurations_survive_the_way_through_json(golden):
    config = parse_config(golden.config)
    assert parse_config(json.loads(json.dumps(config.to_mapping()))) == config


def test_a_configuration_is_passed_through():
    config = recipe("gtea")
    assert parse_config(config) is config


def test_settings_cannot_be_edited():
    with pytest.raises(FrozenInstanceError):
        recipe("gtea").training.lr = 1.0


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"FACT": {"ntokens": 3}}, "'FACT.ntokens'.*'FACT.ntoken'"),
        ({"epochs": 3}, "'epochs'.*'epoch'"),
        ({"BU": {"s_layer": 1}}, "'BU.s_layer'.*'BU.s_layers'"),
        ({"Bi": {"s_layers": 1}}, "Bi.s_layers"),
        ({"aux": {"gpus": 1}}, "'aux.gpus'.*'aux.gpu'"),
        ({"Los": {}}, "'Los'.*'Loss'"),
    ],
)
def test_unknown_keys_name_the_nearest_one(settings, words):
    with pytest.raises(ConfigError, match=words):
        parse_config(settings)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"FACT": {"ntoken": "many"}}, "FACT.ntoken must be of type int, found 'many'"),
        ({"FACT": {"ntoken": 2.5}}, "FACT.ntoken"),
        ({"FACT": {"fpos": 1}}, "FACT.fpos must be of type bool"),
        ({"lr": True}, "lr must be of type float"),
        ({"lr": "fast"}, "lr must be of type float"),
        ({"lr": float("nan")}, "lr must be of type float"),
        ({"bg_class": [0, -1]}, "bg_class"),
        ({"bg_class": "zero"}, "bg_class"),
        ({"FACT": 3}, "FACT must be a mapping"),
        ({"optimizer": "Adagrad"}, "'SGD', 'Adam'"),
        ({"Loss": {"match": "m2m"}}, "'o2o', 'o2m', 'seq'"),
        ({1: 2}, "must be strings"),
    ],
)
def test_values_of_a_wrong_type_say_what_was_found(settings, words):
    with pytest.raises(ConfigError, match=words):
        parse_config(settings)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"FACT": {"ntoken": 0}}, "FACT.ntoken"),
        ({"FACT": {"block": "uU"}}, "FACT.block"),
        ({"FACT": {"block": "i"}}, "FACT.block"),
        ({"FACT": {"block": "ixU"}}, "FACT.block"),
        ({"FACT": {"cmr": 1.0}}, "FACT.cmr"),
        ({"FACT": {"mwt": 1.5}}, "FACT.mwt"),
        ({"Bi": {"dropout": 1.0}}, "dropout"),
        ({"Bi": {"f_layers": 0}}, "f_layers"),
        ({"Bi": {"a_nhead": 7}}, "a_nhead = 7"),
        ({"Bi": {"f_ngp": 3}}, "f_ngp = 3"),
        ({"Bi": {"f": "m2"}}, "no layer norm"),
        ({"Bi": {"a": "gru", "a_dim": 256}}, "gru_om"),
        ({"Bu": {"a": "sca"}}, "use 'sa'"),
        ({"Bu": {"hid_dim": 256}}, "256.*512"),
        ({"Bu": {"a_dim": 256}}, "256.*512"),
        ({"Loss": {"sw": -1.0}}, "Loss.sw"),
        ({"TM": {"t": 0}}, "TM.t"),
        ({"TM": {"p": 2}}, "TM.p"),
        ({"CLIP": {"temp": 0}}, "CLIP.temp"),
        ({"lr": 0}, "lr"),
        ({"batch_size": 0}, "batch_size"),
        ({"lr_decay": -2}, "lr_decay"),
    ],
)
def test_values_out_of_range_or_at_odds_are_errors(settings, words):
    with pytest.raises(ConfigError, match=words):
        parse_config(settings)


def test_blocks_that_are_not_used_are_not_checked():
    assert parse_config({"FACT": {"block": "iU"}, "Bu": {"a": "sca"}}).model.blocks == "iU"


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("breakfast", ("iuUU", 60, "m2", 512, 0.0, 0.3, 0.1, "o2o", 1.0, 4, 150, 80, 1, (0,))),
        ("gtea", ("iuU", 60, "m", 128, 0.2, 0.5, 0.1, "o2o", 1.0, 1, 400, 250, 1, (10,))),
        ("egoprocel", ("iUUU", 200, "m2", 256, 0.0, 0.3, 0.9, "o2o", 0.5, 1, 350, 250, 3, (0,))),
        ("epic-kitchens", ("IUUU", 300, "m2", 256, 0.0, 0.3, 0.1, "o2m", 0.5, 1, 200, 600, 4, (0,))),
        ("havid-holdout", ("iuUU", 75, "m", 256, 0.2, 0.3, 0.1, "o2o", 1.0, 2, 250, 80, 1, (0,))),
    ],
)
def test_recipes_hold_the_numbers_of_the_published_runs(name, row):
    c = recipe(name)
    found = (
        *(c.model.blocks, c.model.num_tokens, c.input_block.frame_branch, c.input_block.frame_dim),
        *(c.input_block.dropout, c.model.channel_mask_rate, c.model.frame_weight),
        *(c.loss.match, c.loss.background_weight),
        *(c.training.batch_size, c.training.epochs, c.training.lr_decay, c.training.sample_rate),
        c.data.background_classes,
    )
    assert found == row
    assert (c.training.optimizer, c.training.lr, c.training.max_grad_norm) == ("Adam", 1e-4, 10.0)


def test_an_unknown_recipe_lists_those_there_are():
    with pytest.raises(ConfigError, match="breakfast, gtea"):
        recipe("lunch")


@pytest.mark.parametrize(("segments", "tokens"), [(1, 10), (7, 11), (20, 30), (21, 32)])
def test_own_data_gets_half_again_as_many_tokens_as_its_busiest_video_has_segments(segments, tokens):
    config = auto_config(segments)
    assert config.model.num_tokens == tokens
    assert config.loss.null_weight is None
    assert replace(config, model=recipe("gtea").model, data=recipe("gtea").data) == recipe("gtea")


def test_own_data_without_a_segment_is_an_error():
    with pytest.raises(ConfigError, match="max_segments = 0"):
        auto_config(0)
