"""Features and labels meet video by video; one bad video harms no other."""

import numpy as np
import pytest

from pipeline.dataset import find_stored, labels_by_step, load_features, survey_part
from pipeline.inputs import inputs_of_settings
from pipeline.labels import ClassList
from storage.errors import MissingArtefactError
from storage.features import read_features
from storage.store import Store
from tests.pipeline.tiny import CLASSES, TRAIN, TinyDataset, write_tiny_dataset


@pytest.fixture
def own(tmp_path):
    """A data set and a store for the test to spoil."""
    dataset = write_tiny_dataset(tmp_path / "data")
    dataset.fill(tmp_path / "store", TRAIN)
    return dataset


def survey(dataset: TinyDataset, store, videos=TRAIN):
    settings = dataset.settings(store)
    return survey_part(
        videos,
        dataset=settings.dataset,
        inputs=inputs_of_settings(settings.extraction, store=Store(store)),
        classes=ClassList(CLASSES),
        store=Store(store),
    )


def test_every_video_of_the_split_is_found_in_its_order(tiny, tiny_store):
    found = survey(tiny, tiny_store, ("c", "a"))
    assert [source.video.id for source in found.sources] == ["c", "a"]
    assert [outcome.status for outcome in found.outcomes] == ["done", "done"]
    for source in found.sources:
        labels = tiny.labels_of(source.video.id)
        np.testing.assert_array_equal(source.labels, labels)
        assert source.num_segments == 1 + np.count_nonzero(np.diff(labels))


def test_profiles_are_joined_on_the_times_of_the_first(tiny, tiny_store):
    source = survey(tiny, tiny_store).sources[0]
    loaded = load_features(source.stored, sample_rate=1, store=Store(tiny_store))
    np.testing.assert_allclose(loaded.step_times, np.arange(0, 60, 4) / 10)
    assert loaded.features.shape == (15, 1024 + 512)
    first, second = (
        read_features(Store(tiny_store).feature_path(item.profile.name, key)).feature
        for item, key in zip(source.stored.inputs, source.stored.keys, strict=True)
    )
    np.testing.assert_array_equal(loaded.features[:, :1024], first)
    np.testing.assert_array_equal(loaded.features[:, 1024:], second[::2])


def test_a_sample_rate_keeps_every_nth_step(tiny, tiny_store):
    source = survey(tiny, tiny_store).sources[0]
    store = Store(tiny_store)
    every, third = (load_features(source.stored, sample_rate=rate, store=store) for rate in (1, 3))
    np.testing.assert_array_equal(third.step_times, every.step_times[::3])
    np.testing.assert_array_equal(third.features, every.features[::3])


def test_pooled_steps_have_the_same_times_and_the_mean_of_their_neighbours(tiny, tiny_store):
    source = survey(tiny, tiny_store).sources[0]
    store = Store(tiny_store)
    every, third = (
        load_features(source.stored, sample_rate=rate, store=store, pool="mean") for rate in (1, 3)
    )
    np.testing.assert_array_equal(third.step_times, every.step_times[::3])
    np.testing.assert_allclose(third.features[0], every.features[:2].mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(third.features[1], every.features[2:5].mean(axis=0), rtol=1e-5)


def test_step_labels_are_those_of_the_frames_around(tiny, tiny_store):
    source = survey(tiny, tiny_store).sources[0]
    loaded = load_features(source.stored, sample_rate=1, store=Store(tiny_store))
    found, labels = labels_by_step(source, loaded), tiny.labels_of("a")
    for step, label in enumerate(found):
        own = labels[max(4 * step - 1, 0) : 4 * step + 3]
        counts = np.bincount(own, minlength=3)
        assert counts[label] == counts.max()


@pytest.mark.parametrize(("surplus", "note"), [(3, "3 labels left out"), (-3, "3 frames left out")])
def test_labels_within_the_tolerance_are_cut_and_it_is_said(own, tmp_path, surplus, note):
    path = own.root / "labels" / "b.txt"
    lines = path.read_text().splitlines()
    path.write_text("\n".join(lines[:surplus] if surplus < 0 else lines + lines[-1:] * surplus))
    found = survey(own, tmp_path / "store")
    assert len(found.sources) == 3
    assert note in found.sources[1].note
    assert len(found.sources[1].labels) == min(60, 60 + surplus)
    loaded = load_features(found.sources[1].stored, sample_rate=1, store=Store(tmp_path / "store"))
    assert len(labels_by_step(found.sources[1], loaded)) == 15


def longer(own):
    path = own.root / "labels" / "b.txt"
    path.write_text(path.read_text() + "stir\n" * 11)


def shorter(own):
    path = own.root / "labels" / "b.txt"
    path.write_text("stir\n" * 49)


def unknown(own):
    path = own.root / "labels" / "b.txt"
    path.write_text("stirr\n" + path.read_text())


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (longer, ("labels/b.txt has 71 labels", "60 frames", "Give one label per video frame")),
        (shorter, ("labels/b.txt has 49 labels", "60 frames", "Give one label per video frame")),
        (unknown, ("labels/b.txt, line 1: class 'stirr'", "nearest: 'stir'", "Correct the line")),
        (
            lambda own: (own.root / "labels" / "b.txt").unlink(),
            ("videos/b.mp4: there are no labels at", "Add the file, or remove the video from the split"),
        ),
        (
            lambda own: (own.root / "videos" / "b.mp4").unlink(),
            ("split 'split1' names video 'b'", "Add the video, or remove the line from the split"),
        ),
        (
            lambda own: (own.root / "videos" / "b.mp4").write_bytes(b"no video"),
            ("videos/b.mp4: not a video but text",),
        ),
    ],
)
def test_a_bad_video_is_named_with_the_remedy_and_the_others_stay(own, tmp_path, spoil, expected):
    spoil(own)
    found = survey(own, tmp_path / "store")
    assert [source.video.id for source in found.sources] == ["a", "c"]
    assert [outcome.status for outcome in found.outcomes] == ["done", "failed", "done"]
    for part in expected:
        assert part in found.outcomes[1].reason
    assert "\n" not in found.outcomes[1].reason


def test_missing_features_name_the_video_the_profile_and_the_command(tiny, tmp_path):
    found = survey(tiny, tmp_path / "store")
    assert found.sources == ()
    for video, outcome in zip(TRAIN, found.outcomes, strict=True):
        assert f"{video}.mp4" in outcome.reason
        assert "no i3d-rgb:stride=4 features" in outcome.reason
        assert "factseg extract" in outcome.reason


def test_a_damaged_feature_file_is_named(own, tmp_path):
    stored = survey(own, tmp_path / "store").sources[2].stored
    path = Store(tmp_path / "store").feature_path("clip", stored.keys[1])
    path.write_bytes(path.read_bytes()[:100])
    outcome = survey(own, tmp_path / "store").outcomes[2]
    assert outcome.status == "failed"
    assert str(path) in outcome.reason
    assert "Delete it" in outcome.reason


def test_a_renamed_video_keeps_its_features(own, tmp_path):
    moved = (own.root / "videos" / "a.mp4").rename(own.root / "elsewhere.mp4")
    settings = own.settings(tmp_path / "store")
    store = Store(tmp_path / "store")
    inputs = inputs_of_settings(settings.extraction, store=store)
    assert find_stored(moved, inputs=inputs, store=store).video.id == "elsewhere"
    with moved.open("ab") as file:
        file.write(b"\0" * 9)
    with pytest.raises(MissingArtefactError):
        find_stored(moved, inputs=inputs, store=store)
