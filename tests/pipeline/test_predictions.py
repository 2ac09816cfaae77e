"""Kinetics classes from stored features: the same as a forward's logits, named where names are there."""

import numpy as np
import pytest
import torch

from pipeline import predictions
from pipeline.errors import SettingsError
from pipeline.extractors import ExtractorSet, load_i3d
from pipeline.predictions import (
    class_names_of,
    mean_features,
    predict_classes,
    read_class_names,
    top_classes,
)
from pipeline.settings import ExtractionSettings
from pipeline.weights import ResolvedWeights, random_weights
from storage.features import write_features
from tests.pipeline.test_extract import FakeI3D, fake_extractors
from tests.storage.samples import METADATA, rows

CPU = torch.device("cpu")
NAMES = "".join(f"class of number {index}\n" for index in range(400))


def test_the_head_on_mean_features_gives_the_mean_logits():
    encoder = load_i3d(random_weights("i3d-rgb", seed=0), device=CPU)
    windows = torch.randn(1, 3, 9, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        output = encoder._model(windows)
    logits = encoder.classify(output.features[0].mean(dim=0))
    expected = output.logits[0].mean(dim=0)
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


class Classifier(FakeI3D):
    def classify(self, features):
        logits = torch.zeros(400)
        logits[int(features[0])] = 3
        logits[7] += 1
        return logits


def test_logits_of_two_streams_are_summed_and_the_likeliest_comes_first(tmp_path):
    networks, (extractor,) = fake_extractors("mstcn-i3d")
    networks.encoder = Classifier()
    features = np.zeros(2048)
    features[0], features[1024] = 30, 50
    names = tmp_path / "names.txt"
    names.write_text(NAMES)
    top = top_classes(extractor, features, class_names=names)
    assert [one.logit for one in top] == [3, 3, 2, 0, 0]
    assert {one.name for one in top[:2]} == {"class of number 30", "class of number 50"}
    assert top[2].name == "class of number 7"
    total = 2 * np.exp(3) + np.exp(2) + 397
    assert top[0].probability == pytest.approx(np.exp(3) / total)


def test_videos_are_seen_by_their_stored_features(h264, tmp_path, monkeypatch):
    networks, extractors = fake_extractors("i3d-rgb:stride=16", "clip")
    networks.encoder = Classifier()
    monkeypatch.setattr(
        predictions, "shared_extractors", lambda *_: (ExtractorSet(extractors=tuple(extractors)),)
    )
    from pipeline.catalogue import open_video
    from pipeline.extract import extract_video
    from storage.store import Store

    store = Store(tmp_path / "store")
    settings = ExtractionSettings(features=("clip",), weights="random")
    see = {"extraction": settings, "store": store.root}
    assert predict_classes([h264], **see) == []
    video = open_video(h264, store=store)
    extract_video(h264, video.facts, video.video_hash, extractors, store=store)
    (seen,) = predict_classes([h264, tmp_path / "gone.mp4"], **see)
    assert (seen.video, seen.profile, seen.random_weights) == ("square", "i3d-rgb:stride=16", True)
    assert len(seen.classes) == 5


def test_the_mean_is_that_of_all_steps_also_across_a_long_pause(tmp_path, monkeypatch):
    monkeypatch.setattr(predictions, "_CHUNK_STEPS", 4)
    features = rows(11, 3)
    with write_features(tmp_path / "f.parquet", width=3, metadata=METADATA, packing="exact") as writer:
        writer.append(np.array([0, 1, 2, *range(5000, 5008)], np.float64), features)
    np.testing.assert_allclose(mean_features(tmp_path / "f.parquet"), features.mean(axis=0), rtol=1e-6)


def test_names_come_from_beside_the_weights_unless_given(tmp_path, monkeypatch):
    monkeypatch.setenv("FACTSEG_WEIGHTS", str(tmp_path / "cache"))
    weights = ResolvedWeights(
        network="i3d-rgb", digest="0" * 64, random=False, origin="", path=tmp_path / "rgb.pt"
    )
    assert class_names_of(weights, given=None)[217] == "class 217"
    (tmp_path / "label_map.txt").write_text(NAMES)
    assert class_names_of(weights, given=None)[217] == "class of number 217"
    (tmp_path / "own.txt").write_text(NAMES.replace("class of", "my"))
    assert class_names_of(weights, given=tmp_path / "own.txt")[217] == "my number 217"


@pytest.mark.parametrize("text", ["", "one\ntwo\n", NAMES + "one more\n"])
def test_another_number_of_names_is_refused(tmp_path, text):
    (tmp_path / "names.txt").write_text(text)
    with pytest.raises(SettingsError, match=r"names\.txt: holds \d+ class names; the classifier has 400"):
        read_class_names(tmp_path / "names.txt")
    with pytest.raises(SettingsError, match=r"gone\.txt: class names cannot be read"):
        read_class_names(tmp_path / "gone.txt")
