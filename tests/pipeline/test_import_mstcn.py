"""A data set of features in the MS-TCN layout: in bit for bit, every bad file named, and fit to train on."""

import json

import numpy as np
import pytest

from pipeline.dataset import dataset_classes, dataset_split, load_samples, survey_part
from pipeline.errors import DatasetError, SettingsError
from pipeline.evaluate import evaluate_run
from pipeline.export import export, predicted_dataset
from pipeline.import_mstcn import MstcnFolder, import_mstcn
from pipeline.inputs import inputs_of_run
from pipeline.segment import segment_batch
from pipeline.settings import DatasetSettings, RunSettings, SegmentSettings
from pipeline.settings_reading import build_settings
from pipeline.settings_training import TrainingSettings
from pipeline.train import train
from storage.datasets import read_dataset
from storage.errors import InvalidNameError, MissingArtefactError
from storage.features import read_features
from storage.segments import read_segments
from storage.store import Store
from tests.pipeline.tiny import CLASSES, RECIPE, write_split

WIDTH = 6
LENGTHS = {"a": 40, "b": 55, "c": 61, "x": 48}


def write_dataset(root, *, lengths=LENGTHS, orientation="DT", dtype=np.float32):
    for name in ("features", "groundTruth", "splits"):
        (root / name).mkdir(parents=True)
    rng = np.random.default_rng(0)
    directions = rng.standard_normal((len(CLASSES), WIDTH))
    for video, steps in lengths.items():
        labels = np.repeat(rng.permutation(3), [steps // 3, steps // 3, steps - 2 * (steps // 3)])
        rows = (directions[labels] + 0.1 * rng.standard_normal((steps, WIDTH))).astype(dtype)
        np.save(root / "features" / f"{video}.npy", rows.T if orientation == "DT" else rows)
        (root / "groundTruth" / f"{video}.txt").write_text("".join(f"{CLASSES[i]}\n" for i in labels))
    (root / "mapping.txt").write_text("".join(f"{index} {name}\n" for index, name in enumerate(CLASSES)))
    write_split(root, train=[name for name in lengths if name != "x"], test=["x"])
    return MstcnFolder.at(root)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


def reasons(made):
    return {outcome.video: outcome.reason for outcome in made.outcomes if outcome.status == "failed"}


def settings_for(store, **training):
    return RunSettings(
        store=store.root,
        dataset=DatasetSettings(imported="tea"),
        extraction={"device": "cpu"},
        training=TrainingSettings(model="fact", **training),
    )


def samples_of(store, part, *, every=1):
    settings = settings_for(store)
    classes = dataset_classes(settings.dataset, store=store)
    split = dataset_split(settings.dataset, store=store)
    survey = survey_part(
        getattr(split, part),
        dataset=settings.dataset,
        inputs=inputs_of_run(settings, store=store),
        classes=classes,
        store=store,
    )
    return survey, load_samples(survey.sources, every=every, store=store)


@pytest.mark.parametrize("orientation", ["DT", "TD"])
def test_features_and_labels_come_back_bit_for_bit_whichever_axis_is_time(tmp_path, store, orientation):
    folder = write_dataset(tmp_path / "tea", orientation=orientation)
    made = import_mstcn(folder, name="tea", store=store)
    assert made.facts["orientation"] == orientation
    assert (made.facts["videos"], made.facts["steps"], made.facts["width"]) == (4, 204, WIDTH)
    assert not reasons(made)
    survey, samples = samples_of(store, "train")
    assert [source.video.id for source in survey.sources] == ["a", "b", "c"]
    for source, (video, labels) in zip(survey.sources, samples, strict=True):
        array = np.load(folder.features / f"{source.video.id}.npy")
        np.testing.assert_array_equal(video.features, array.T if orientation == "DT" else array)
        names = (folder.labels / f"{source.video.id}.txt").read_text().split("\n")[:-1]
        assert [CLASSES[label] for label in labels] == names


def test_every_nth_step_takes_the_majority_of_the_frames_around_it(tmp_path, store):
    folder = write_dataset(tmp_path / "tea")
    import_mstcn(folder, name="tea", store=store, fps=30)
    survey, samples = samples_of(store, "test", every=5)
    (source,), ((video, labels),) = survey.sources, samples
    np.testing.assert_array_equal(video.features, np.load(folder.features / "x.npy").T[::5])
    for step, label in enumerate(labels):
        own = source.labels[max(5 * step - 2, 0) : 5 * step + 3]
        counts = np.bincount(own, minlength=3)
        assert counts[label] == counts.max()


def test_times_follow_the_rate_and_without_one_count_rows(tmp_path, store):
    folder = write_dataset(tmp_path / "tea")
    for fps, step in ((15.0, 1 / 15), (None, 1.0)):
        made = import_mstcn(folder, name="tea", store=store, fps=fps)
        recording = made.dataset.recordings["a"]
        np.testing.assert_allclose(
            read_features(store.feature_path("imported", recording.features)).time, np.arange(40) * step
        )
        segments, facts = read_segments(store.label_path(recording.labels))
        assert segments[-1].end_seconds == pytest.approx(40 * step)
        assert facts["fps"] == fps
        assert facts["source"] == "a.txt"


def test_a_second_import_writes_nothing_new_and_a_changed_file_only_itself(tmp_path, store):
    folder = write_dataset(tmp_path / "tea")
    import_mstcn(folder, name="tea", store=store)
    before = {path: path.stat().st_mtime_ns for path in store.root.rglob("*.parquet")}
    import_mstcn(folder, name="tea", store=store)
    assert {path: path.stat().st_mtime_ns for path in store.root.rglob("*.parquet")} == before
    array = np.load(folder.features / "b.npy")
    array[0, 0] += 1
    np.save(folder.features / "b.npy", array)
    import_mstcn(folder, name="tea", store=store)
    assert len(set(store.root.rglob("*.parquet")) - set(before)) == 1


def test_two_equal_axes_are_told_apart_by_the_labels(tmp_path, store):
    folder = write_dataset(tmp_path / "tea", lengths={"a": 40, "x": 40})
    made = import_mstcn(folder, name="tea", store=store)
    assert (made.facts["orientation"], made.facts["width"]) == ("DT", WIDTH)


def test_files_of_both_orientations_are_told_apart_by_the_labels(tmp_path, store):
    folder = write_dataset(tmp_path / "tea")
    path = folder.features / "b.npy"
    np.save(path, np.load(path).T)
    made = import_mstcn(folder, name="tea", store=store)
    assert made.facts["orientation"] == "DT/TD"
    assert not reasons(made)


def test_what_no_axis_and_no_label_decides_is_refused_until_it_is_said(tmp_path, store):
    folder = write_dataset(tmp_path / "tea", lengths={"a": WIDTH + 1, "x": WIDTH + 1})
    with pytest.raises(DatasetError, match="Say it with --orientation DT or TD"):
        import_mstcn(folder, name="tea", store=store)
    made = import_mstcn(folder, name="tea", store=store, orientation="DT")
    assert made.facts["steps"] == 2 * (WIDTH + 1)


def test_float64_is_rounded_and_said(tmp_path, store):
    folder = write_dataset(tmp_path / "tea", dtype=np.float64)
    made = import_mstcn(folder, name="tea", store=store)
    assert len(made.notes) == 4
    assert "a.npy: float64 values were rounded to float32" in made.notes[0]


def shorten(folder):
    path = folder.labels / "b.txt"
    path.write_text("\n".join(path.read_text().split("\n")[:-4]))


def test_labels_within_the_tolerance_are_cut_and_it_is_said_wherever_they_are_used(tmp_path, store):
    folder = write_dataset(tmp_path / "tea")
    shorten(folder)
    made = import_mstcn(folder, name="tea", store=store)
    assert "52 labels for 55 frames, 3 frames left out at the end" in made.notes[0]
    survey, samples = samples_of(store, "train")
    assert survey.sources[1].note == made.notes[0]
    assert len(survey.sources[1].labels) == 52
    assert len(samples[1][1]) == 55


def narrow(path):
    np.save(path, np.load(path)[:-1])


def poison(path):
    array = np.load(path)
    array[2, 17] = np.nan
    np.save(path, array)


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (
            lambda root: narrow(root / "features/b.npy"),
            "b.npy: its rows have 5 values, those of 3 other files 6",
        ),
        (lambda root: poison(root / "features/b.npy"), "b.npy: step 17 holds a value that is NaN"),
        (lambda root: (root / "features/b.npy").write_bytes(b"\x93NUM"), "b.npy is no readable .npy array"),
        (lambda root: np.save(root / "features/b.npy", np.zeros(9)), "b.npy holds an array of shape (9,)"),
        (
            lambda root: np.save(root / "features/b.npy", np.full((6, 55), "x")),
            "b.npy holds values of type <U1",
        ),
        (
            lambda root: np.save(root / "features/b.npy", np.array([[{}]], dtype=object), allow_pickle=True),
            "b.npy is no readable .npy array",
        ),
        (lambda root: (root / "features/b.npy").unlink(), "there are no features at"),
        (lambda root: (root / "groundTruth/b.txt").unlink(), "there are no labels at"),
        (lambda root: (root / "groundTruth/b.txt").write_text("stirr\n"), "b.txt, line 1: class 'stirr'"),
        (
            lambda root: (root / "groundTruth/b.txt").write_text("stir\n" * 9),
            "b.txt has 9 labels but its video has 55",
        ),
    ],
)
def test_a_bad_file_is_named_in_one_line_and_the_others_go_in(tmp_path, store, spoil, expected):
    folder = write_dataset(tmp_path / "tea")
    spoil(folder.root)
    made = import_mstcn(folder, name="tea", store=store)
    assert sorted(made.dataset.recordings) == ["a", "c", "x"]
    assert expected in reasons(made)["b"]
    assert "\n" not in reasons(made)["b"]
    survey, _ = samples_of(store, "train")
    assert [outcome.status for outcome in survey.outcomes] == ["done", "failed", "done"]
    assert "Import it again" in survey.outcomes[1].reason
    assert any("names 1 videos that were not imported" in note for note in made.notes)


def test_a_bad_split_is_named_and_the_others_go_in(tmp_path, store):
    folder = write_dataset(tmp_path / "tea")
    write_split(folder.root, train=["a"], test=["a"], name="split2")
    made = import_mstcn(folder, name="tea", store=store)
    assert list(made.dataset.splits) == ["split1"]
    assert "is in both" in reasons(made)["split split2"]


@pytest.mark.parametrize(("fps"), [0.0, -3.0, float("nan"), float("inf")])
def test_a_rate_is_a_number_above_zero(tmp_path, store, fps):
    with pytest.raises(SettingsError, match="is no rate"):
        import_mstcn(write_dataset(tmp_path / "tea"), name="tea", store=store, fps=fps)


@pytest.mark.parametrize("name", ["../tea", "a/b", "", ".tea", "t\0", "x" * 101])
def test_a_name_never_leaves_the_folder_of_data_sets(tmp_path, store, name):
    with pytest.raises(InvalidNameError):
        import_mstcn(write_dataset(tmp_path / "tea"), name=name, store=store)


def test_an_unknown_data_set_or_split_is_named_with_those_there_are(tmp_path, store):
    import_mstcn(write_dataset(tmp_path / "tea"), name="tea", store=store)
    with pytest.raises(MissingArtefactError, match=r"No data set 'coffee' .*\(there are: tea\)"):
        read_dataset(store, "coffee")
    with pytest.raises(DatasetError, match=r"no split 'split9' \(it has: split1\)"):
        dataset_split(DatasetSettings(imported="tea", split="split9"), store=store)


def test_an_imported_data_set_and_folders_or_features_exclude_each_other():
    for values, message in (
        ({"dataset": {"imported": "tea", "mapping": "m"}}, "leave --mapping out"),
        ({"dataset": {"imported": "tea"}, "extraction": {"features": ["clip"]}}, "leave --features out"),
        (
            {"dataset": {}},
            "give dataset.videos, dataset.labels, dataset.mapping, dataset.splits, or with --dataset",
        ),
        ({"dataset": {"imported": "../tea"}}, "dataset.imported"),
    ):
        with pytest.raises(SettingsError) as caught:
            build_settings(RunSettings, values, source="settings")
        assert message in str(caught.value)


@pytest.mark.usefixtures("single_thread")
def test_a_model_is_trained_and_scored_without_a_video_and_refuses_videos(tmp_path, store, tiny):
    import_mstcn(write_dataset(tmp_path / "tea"), name="tea", store=store, fps=15)
    (tmp_path / "tiny.yaml").write_text(RECIPE)
    settings = settings_for(store, recipe=str(tmp_path / "tiny.yaml"), epochs=12, every=2)
    outcome = train(settings)
    assert [item.status for item in outcome.outcomes] == ["done"] * 3
    again = train(settings)
    assert (again.run, again.trained) == (outcome.run, False)
    scored = evaluate_run(settings, run=outcome.run)
    report = json.loads((scored.folder / "report.json").read_text())
    assert scored.scores["mstcn"]["frame accuracy"] > 60
    assert report["lineage"]["features"][0]["spec"] == f"imported:width={WIDTH}"
    what = predicted_dataset(
        run=outcome.run, model="", dataset="tea", split="split1", device="cpu", store=store
    )
    assert what.videos["x"][-1].end_frame == LENGTHS["x"]
    made = export(what, form="mstcn", folder=tmp_path / "out", blank_as="_")
    words = (tmp_path / "out" / "x").read_text().split("\n")[1].split()
    truth = (tmp_path / "tea" / "groundTruth" / "x.txt").read_text().replace(" ", "_").split()
    agreed = np.mean([word == other for word, other in zip(words, truth, strict=True)])
    assert 100 * agreed == pytest.approx(scored.scores["mstcn"]["frame accuracy"])
    assert len(made.files) == 2
    asked = SegmentSettings(videos=(tiny.root / "videos" / "a.mp4",), store=store.root, device="cpu")
    (segmented,) = segment_batch(asked.videos, settings=asked, run=outcome.run)
    assert (
        "was trained on imported:width=6 features, which cannot be made from a video"
        in segmented.outcome.reason
    )


def test_real_sensor_data_imports_whole(shared, store):
    folder = MstcnFolder.at(shared / "datasets" / "jigsaws-suturing")
    made = import_mstcn(folder, name="suturing", store=store, fps=30)
    assert not reasons(made)
    assert not made.notes
    assert (made.facts["videos"], made.facts["steps"], made.facts["width"]) == (38, 120_154, 76)
    assert (made.facts["classes"], made.facts["splits"], made.facts["orientation"]) == (10, 8, "DT")
    for split in made.dataset.splits.values():
        assert set(split.train) | set(split.test) <= set(made.dataset.recordings)
    names = sorted(made.dataset.recordings)[::9]
    for name in names:
        recording = made.dataset.recordings[name]
        stored = read_features(store.feature_path("imported", recording.features))
        array = np.load(folder.features / f"{name}.npy")
        assert stored.feature.tobytes() == np.ascontiguousarray(array.T[:, :]).tobytes()
        segments, _ = read_segments(store.label_path(recording.labels))
        lines = (folder.labels / f"{name}.txt").read_text().split()
        assert [s.label for s in segments for _ in range(s.start_frame, s.end_frame)] == lines
