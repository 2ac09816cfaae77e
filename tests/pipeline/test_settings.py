"""Settings: a typo is an error that names the nearest key, wherever it stands."""

from pathlib import Path

import pytest
import yaml

from pipeline.errors import SettingsError
from pipeline.settings import (
    DatasetSettings,
    EvaluateSettings,
    ExtractionSettings,
    ExtractSettings,
    RunSettings,
    SegmentSettings,
    TextSettings,
)
from pipeline.settings_file import read_settings_file
from pipeline.settings_reading import build_settings
from pipeline.settings_training import TrainingSettings
from pipeline.weights import WeightsPolicy

DATASET = {"videos": "v", "labels": "l", "mapping": "m.txt", "splits": "s"}


def complaint(kind, values):
    with pytest.raises(SettingsError) as caught:
        build_settings(kind, values, source="run.toml")
    message = str(caught.value)
    assert message.startswith("run.toml: ")
    assert message.endswith(".")
    assert not message.endswith("..")
    assert "\n" not in message
    return message


def test_defaults_are_the_documented_ones():
    settings = build_settings(RunSettings, {"dataset": DATASET}, source="run.toml")
    assert settings.store == Path("factseg-store")
    assert settings.extraction.features == ("i3d-rgb:stride=8", "clip:stride=4")
    assert settings.extraction.weights is WeightsPolicy.PRETRAINED
    assert (settings.training.model, settings.training.recipe, settings.training.seed) == (
        "fact-clip",
        "auto",
        0,
    )
    assert (settings.text.model, settings.dataset.split) == ("ViT-B-32", "split1")


@pytest.mark.parametrize(
    ("values", "where", "nearest"),
    [
        ({"datset": DATASET}, "datset", "dataset"),
        ({"dataset": {**DATASET, "vidoes": "v"}}, "dataset.vidoes", "videos"),
        ({"dataset": DATASET, "extraction": {"featurs": ["clip"]}}, "extraction.featurs", "features"),
        ({"dataset": DATASET, "text": {"promt": "x"}}, "text.promt", "prompt"),
        ({"dataset": DATASET, "training": {"epoch": 3}}, "training.epoch", "epochs"),
    ],
)
@pytest.mark.parametrize("form", ["toml", "yaml"])
def test_an_unknown_key_names_the_nearest_at_every_level(tmp_path, values, where, nearest, form):
    path = tmp_path / f"run.{form}"
    path.write_text(as_toml(values) if form == "toml" else yaml.safe_dump(values))
    message = complaint(RunSettings, read_settings_file(path))
    assert f"unknown key {where!r}: did you mean {nearest!r}?" in message


def as_toml(values):
    lines = []
    for name, section in values.items():
        lines.append(f"[{name}]")
        lines += [f"{key} = {value!r}" for key, value in section.items()]
    return "\n".join(lines)


def test_a_key_like_no_other_lists_the_known_ones():
    assert "known are model, prompt, descriptions, codes" in complaint(TextSettings, {"zzzzzz": 1})


def test_every_problem_is_named_at_once():
    message = complaint(RunSettings, {"dataset": {"videos": "v"}, "training": {"epochs": 0}})
    for key in ("dataset.labels", "dataset.mapping", "dataset.splits", "training.epochs"):
        assert key in message


@pytest.mark.parametrize(
    ("kind", "values", "expected"),
    [
        (ExtractionSettings, {"features": ["clipp"]}, "Did you mean 'clip'?"),
        (ExtractionSettings, {"features": []}, "at least one feature profile"),
        (ExtractionSettings, {"features": ["clip", "clip:stride=1"]}, "listed twice"),
        (ExtractionSettings, {"weights": "pretraind"}, "'pretrained', 'random' or 'cached'"),
        (ExtractionSettings, {"batch_videos": 0}, "batch_videos"),
        (TextSettings, {"prompt": "a video"}, "write `{label}` exactly once"),
        (TextSettings, {"prompt": "{label} {label}"}, "write `{label}` exactly once"),
        (TextSettings, {"prompt": "a {name} {label} here"}, "no other braces"),
        (TextSettings, {"prompt": "{{label}}"}, "no other braces"),
        (TrainingSettings, {"model": "FACT"}, "'fact' or 'fact-clip'"),
        (TrainingSettings, {"learning_rate": float("nan")}, "learning_rate"),
        (TrainingSettings, {"learning_rate": float("inf")}, "learning_rate"),
        (TrainingSettings, {"seed": -1}, "seed"),
        (TrainingSettings, {"graphs": True, "deterministic": True}, "leave out one"),
        (DatasetSettings, {**DATASET, "split": "../split1"}, "split"),
        (DatasetSettings, {**DATASET, "name": "a/b"}, "'a/b' cannot be a name in the registry"),
        (DatasetSettings, {**DATASET, "name": "."}, "cannot be a name"),
        (EvaluateSettings, {"dataset": DATASET, "run": "../x"}, "run"),
        (SegmentSettings, {"videos": []}, "videos"),
        (ExtractSettings, {"videos": ["a"], 1: 2}, "Keys should be strings"),
    ],
)
def test_a_value_that_does_not_fit_is_one_sentence(kind, values, expected):
    assert expected in complaint(kind, values)


def test_profiles_are_stored_in_their_canonical_form():
    settings = ExtractionSettings(features=(" i3d-rgb:window=21:stride=8",))
    assert settings.features == ("i3d-rgb:stride=8",)
    assert settings.profiles[0].stride_frames == 8


def test_settings_cannot_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        TrainingSettings().seed = 3


@pytest.mark.parametrize(
    ("videos", "title"),
    [
        ("/data/tea/videos", "tea"),
        ("/data/tea/Video", "tea"),
        ("/data/tea", "tea"),
        ("/data/a:b (new)", "a_b _new_"),
        ("/", "dataset"),
    ],
)
def test_a_data_set_without_a_name_takes_that_of_its_folder_as_far_as_a_registry_does(videos, title):
    assert DatasetSettings(**{**DATASET, "videos": videos}).title == title


def test_a_name_goes_before_the_folder():
    assert DatasetSettings(**DATASET, name="my tea").title == "my tea"


def test_a_settings_file_is_toml_or_yaml_by_its_ending(tmp_path):
    for name, text in [("a.toml", "\ufeffseed = 3"), ("a.yaml", "seed: 3"), ("a.YML", "seed: 3")]:
        (tmp_path / name).write_text(text, encoding="utf-8")
        assert read_settings_file(tmp_path / name) == {"seed": 3}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.toml", b"seed = ", "is malformed"),
        ("a.yaml", b"seed: [1\nb: {", "is malformed"),
        ("a.yaml", b"- 1\n- 2\n", "holds no settings"),
        ("a.yaml", b"", "holds no settings"),
        ("a.yaml", b"name: caf\xe9", "is not UTF-8"),
        ("a.yaml", b"!!python/object/apply:os.system ['true']", "is malformed"),
        ("a.json", b"{}", "ending in .toml, .yaml or .yml"),
        ("b.yaml", None, "cannot be read"),
    ],
)
def test_a_file_without_settings_is_one_sentence_that_names_it(tmp_path, name, content, message):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SettingsError) as caught:
        read_settings_file(path)
    assert str(caught.value).startswith(str(path))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
