"""The model input: keys from digests alone, and never features of other weights."""

from dataclasses import replace

import pytest

from pipeline.catalogue import open_video
from pipeline.errors import SettingsError, WeightsError
from pipeline.inputs import (
    check_weights,
    extraction_for_model,
    feature_key,
    inputs_of_model,
    inputs_of_settings,
    resolve_extraction,
)
from pipeline.settings import ExtractionSettings
from storage.store import Store

SETTINGS = ExtractionSettings(features=("mstcn-i3d", "clip:stride=4"), weights="random", device="cpu")


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


def test_inputs_keep_the_order_of_the_settings_and_need_no_network(store, monkeypatch):
    monkeypatch.setattr("pipeline.extractors.load_extractors", None)
    inputs = inputs_of_settings(SETTINGS, store=store)
    assert [item.described.spec for item in inputs] == ["mstcn-i3d", "clip:stride=4"]
    assert [item.described.width for item in inputs] == [2048, 512]
    assert all(item.random_weights for item in inputs)


def test_what_a_model_stores_gives_its_inputs_back(store):
    inputs = inputs_of_settings(SETTINGS, store=store)
    assert inputs_of_model([item.described for item in inputs]) == inputs


def test_a_key_is_that_of_extraction(store, h264):
    """The key that looks features up is the name that extraction gives them."""
    from pipeline.device import choose_device
    from pipeline.extract import missing_features
    from pipeline.extractors import load_extractors

    video = open_video(h264, store=store)
    weights = resolve_extraction(SETTINGS, store=store)
    extractors = load_extractors(SETTINGS.profiles, weights, device=choose_device("cpu"))
    paths = missing_features(video.facts, video.video_hash, extractors, store=store)
    inputs = inputs_of_settings(SETTINGS, store=store)
    expected = [store.feature_path(item.profile.name, feature_key(item, video)) for item in inputs]
    assert paths == expected


def test_weights_profile_and_video_all_change_a_key(store, h264):
    video = open_video(h264, store=store)
    item = inputs_of_settings(SETTINGS, store=store)[1]
    keys = {
        feature_key(item, video),
        feature_key(replace(item, weights_digest="0" * 64), video),
        feature_key(replace(item, profile=replace(item.profile, stride_frames=5)), video),
        feature_key(item, replace(video, video_hash="0" * 64)),
    }
    assert len(keys) == 4
    assert feature_key(item, replace(video, id="renamed", path=h264.with_name("x"))) in keys


def test_the_texts_network_is_resolved_with_the_rest_when_asked_for(store):
    found = resolve_extraction(SETTINGS, store=store, text_model="RN50")
    assert sorted(found) == ["clip/RN50", "clip/ViT-B-32", "i3d-optical-flow", "i3d-rgb"]


def test_random_weights_are_only_used_for_a_model_trained_on_them(store):
    described = [item.described for item in inputs_of_settings(SETTINGS, store=store)]
    assert extraction_for_model(described, ExtractionSettings()).weights == "random"
    real = [replace(item, random_weights=False) for item in described]
    asked = extraction_for_model(real, ExtractionSettings(device="cpu", clip_pretrained="laion2b"))
    assert (asked.weights, asked.device, asked.clip_pretrained) == ("pretrained", "cpu", "laion2b")
    assert asked.features == ("mstcn-i3d", "clip:stride=4")


def test_equal_weights_pass_and_others_are_refused_by_name(store):
    inputs = inputs_of_settings(SETTINGS, store=store)
    check_weights(inputs, inputs)
    others = (inputs[0], replace(inputs[1], weights_digest="f" * 64))
    with pytest.raises(WeightsError) as caught:
        check_weights(inputs, others)
    message = str(caught.value)
    assert f"clip:stride=4 features made by weights {inputs[1].weights_digest[:12]}" in message
    assert "ffffffffffff" in message
    assert "another version of torch" in message
    real = [replace(item, random_weights=False) for item in inputs]
    with pytest.raises(
        WeightsError, match=r"here are other weights: ffff.*Give the weights it was trained on"
    ):
        check_weights(real, others)


def test_a_weights_file_and_random_weights_contradict_each_other(store, tmp_path):
    settings = SETTINGS.model_copy(update={"i3d_rgb": tmp_path / "rgb.pt"})
    with pytest.raises(SettingsError, match=r"Random weights were asked for together with .*rgb\.pt"):
        inputs_of_settings(settings, store=store)
