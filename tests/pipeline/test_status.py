import shutil

import duckdb
import numpy as np
import pytest

from pipeline.anywhere import FEATURES_STAGE
from pipeline.catalogue import known_content, open_video
from pipeline.evaluate import evaluate_run
from pipeline.import_mstcn import MstcnFolder, import_mstcn
from pipeline.inputs import feature_key, inputs_of_settings
from pipeline.segment import segment_batch
from pipeline.settings import DatasetSettings, SegmentSettings, StatusSettings
from pipeline.settings_training import TrainingSettings
from pipeline.status import examine_videos, newest_settings
from pipeline.train import train
from pipeline.weights import WeightsPolicy
from storage.errors import MissingArtefactError
from storage.failures import Failure, forget_failure, read_failures, write_failure
from storage.registry import Registry
from storage.status import read_status
from storage.store import Store
from tests.pipeline.tiny import TEST, TRAIN, write_tiny_dataset


@pytest.fixture
def data(tmp_path):
    """A data set of this test's own."""
    return write_tiny_dataset(tmp_path / "data")


def judged_by(tiny, store, **changes):
    settings = tiny.settings(store)
    return StatusSettings(
        store=store,
        dataset=settings.dataset,
        extraction=settings.extraction.model_copy(update=changes),
        text=settings.text,
        training=settings.training,
    )


def states(rows, stage):
    """Status, or (status, reason) where it is not done, by video; of the first profile where there are several."""
    found = {}
    for row in rows:
        if row.stage == stage:
            found.setdefault(row.video, row.status if row.reason is None else (row.status, row.reason))
    return found


def test_a_new_store_misses_everything(tiny, tmp_path):
    rows = examine_videos(judged_by(tiny, Store(tmp_path / "store").root))
    assert states(rows, "probe") == dict.fromkeys(TRAIN + TEST, ("missing", "it was never probed"))
    assert {row.status for row in rows if row.stage == "features"} == {"missing"}
    assert {row.status for row in rows if row.stage == "labels"} == {"done"}
    assert states(rows, "prediction")["x"] == ("missing", "there is no trained model")
    assert states(rows, "evaluation").keys() == set(TEST)


def test_what_is_stored_is_done_and_duckdb_reads_why_the_rest_is_not(tiny, own_store):
    rows = examine_videos(judged_by(tiny, own_store))
    assert set(states(rows, "probe").values()) == {"done"}
    features = [row for row in rows if row.stage == "features"]
    assert [row.status for row in features] == ["done"] * 10
    assert {row.what for row in features} == set(tiny.settings(own_store).extraction.features)
    assert read_status(Store(own_store).status_path) == rows
    asked = duckdb.sql(
        f"SELECT stage, status, count(*) FROM '{own_store}/status.parquet' GROUP BY ALL ORDER BY ALL"  # noqa: S608
    )
    assert ("features", "done", 10) in asked.fetchall()


def test_other_settings_make_stored_features_stale(tiny, own_store):
    rows = examine_videos(judged_by(tiny, own_store, features=("clip:stride=3",)))
    status, reason = states(rows, "features")["a"]
    assert status == "stale"
    assert "other settings of the profile" in reason


def test_a_changed_video_is_stale_and_a_deleted_one_missing(data, tmp_path):
    store = tmp_path / "store"
    data.fill(store, videos=("a", "b"))
    shutil.copyfile(data.root / "videos" / "c.mp4", data.root / "videos" / "a.mp4")
    (data.root / "videos" / "b.mp4").unlink()
    rows = examine_videos(judged_by(data, store))
    assert states(rows, "probe")["a"] == ("stale", "its content changed since it was probed")
    assert states(rows, "features")["a"][0] == "stale"
    assert states(rows, "probe")["b"] == ("missing", "the file is not there any more")


def test_a_failed_probe_and_a_failed_extraction_say_why(data, tmp_path):
    store = Store(tmp_path / "store")
    (data.root / "videos" / "a.mp4").write_bytes(b"no video")
    data.fill(store.root, videos=("b",))
    with pytest.raises(Exception, match=r"a\.mp4"):
        open_video(data.root / "videos" / "a.mp4", store=store)
    settings = judged_by(data, store.root)
    video = open_video(data.root / "videos" / "c.mp4", store=store)
    keys = tuple(feature_key(item, video) for item in inputs_of_settings(settings.extraction, store=store))
    where = str(video.path.absolute())
    write_failure(store, Failure(stage=FEATURES_STAGE, path=where, keys=keys, reason="frame 7 is broken"))
    rows = examine_videos(settings)
    assert states(rows, "probe")["a"][0] == "failed"
    assert "a.mp4" in states(rows, "probe")["a"][1]
    assert states(rows, "features")["c"] == ("failed", "frame 7 is broken")
    forget_failure(store, stage=FEATURES_STAGE, path=where)
    assert read_failures(store) == []
    assert states(examine_videos(settings), "features")["c"] == ("missing", "never extracted")


@pytest.mark.usefixtures("single_thread")
def test_predictions_and_evaluations_are_done_until_another_run_leads(tiny, own_store):
    settings = tiny.settings(own_store, epochs=1)
    first = train(settings).run
    evaluated = evaluate_run(settings, run=first)
    # Whatever led in the store that this one was copied from, this run leads now.
    Registry(Store(own_store)).promote(evaluated.promotion.entry)
    segment_batch(
        [tiny.root / "videos" / "x.mp4"], settings=SegmentSettings(store=own_store, videos=("x",)), run=first
    )
    today = judged_by(tiny, own_store).model_copy(update={"training": settings.training})
    rows = examine_videos(today)
    assert states(rows, "evaluation") == dict.fromkeys(TEST, "done")
    assert states(rows, "prediction")["x"] == "done"
    assert states(rows, "prediction")["y"] == ("missing", "it was never segmented")
    # Without options the newest run's settings judge.
    judged = newest_settings(Store(own_store)) | {"store": own_store}
    assert examine_videos(StatusSettings.model_validate(judged)) == rows
    # Nobody trained for so long, whatever else the store holds.
    other = settings.training.model_copy(update={"epochs": 7})
    rows = examine_videos(today.model_copy(update={"training": other}))
    assert states(rows, "evaluation")["x"][0] == "stale"
    assert "never trained" in states(rows, "evaluation")["x"][1]


def import_toy(store, name="toy"):
    """A data set of two recordings, imported."""
    folder = store.root.parent / name
    for part in ("features", "groundTruth", "splits"):
        (folder / part).mkdir(parents=True)
    for video, steps in (("r", 12), ("t", 14)):
        np.save(folder / "features" / f"{video}.npy", np.ones((3, steps), np.float32))
        (folder / "groundTruth" / f"{video}.txt").write_text("rest\n" * 6 + "cut\n" * (steps - 6))
    (folder / "mapping.txt").write_text("0 rest\n1 cut\n")
    for part, video in (("train", "r"), ("test", "t")):
        (folder / "splits" / f"{part}.split1.bundle").write_text(f"{video}\n")
    return import_mstcn(MstcnFolder.at(folder), name=name, store=store).dataset


def test_imported_data_sets_are_listed_whatever_is_asked_for(tiny, tmp_path):
    store = Store(tmp_path / "store")
    recordings = import_toy(store).recordings
    alone = examine_videos(StatusSettings(store=store.root))
    assert [(row.video, row.stage, row.what, row.status, row.key) for row in alone] == [
        row
        for video, recording in recordings.items()
        for row in (
            (video, "features", "imported:width=3", "done", recording.features),
            (video, "labels", "toy", "done", recording.labels),
        )
    ]
    beside = examine_videos(judged_by(tiny, store.root))
    assert [row for row in beside if row.video in recordings] == alone
    assert {row.video for row in beside if row.stage == "probe"} == {*TRAIN, *TEST}
    store.label_path(recordings["t"].labels).unlink()
    *_, labels = examine_videos(StatusSettings(store=store.root))
    assert (labels.status, labels.reason) == ("missing", "it was deleted; import data set 'toy' again")


def test_the_imported_data_set_asked_for_is_judged_to_its_evaluation(tmp_path):
    store = Store(tmp_path / "store")
    import_toy(store, "other")
    import_toy(store)
    training = TrainingSettings(model="fact")
    asked = StatusSettings(store=store.root, dataset=DatasetSettings(imported="toy"), training=training)
    rows = examine_videos(asked)
    # The other data set's files are the same, and so are their keys; only its rows of labels name it.
    assert sorted(row.what for row in rows if row.stage == "labels") == ["other", "other", "toy", "toy"]
    assert [row.video for row in rows if row.stage == "evaluation"] == ["t"]
    assert states(rows, "prediction") == dict.fromkeys("rt", ("missing", "there is no trained model"))


def test_without_a_store_nothing_is_made(tmp_path):
    with pytest.raises(MissingArtefactError, match="no store at"):
        examine_videos(StatusSettings(store=tmp_path / "none"))
    assert list(tmp_path.iterdir()) == []


def test_known_content_is_not_probed(tiny, tmp_path):
    path = tiny.root / "videos" / "a.mp4"
    assert known_content(path, "ab" * 32, store=Store(tmp_path / "store")) is None


def test_nothing_is_downloaded_to_say_that_weights_are_missing(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "pipeline.inputs.resolve_weights", lambda *_, **__: pytest.fail("looked for weights elsewhere")
    )
    monkeypatch.setattr("pipeline.inputs.find_here", lambda *_, **__: None)
    settings = judged_by(tiny, Store(tmp_path / "store").root, weights=WeightsPolicy.PRETRAINED)
    settings = settings.model_copy(
        update={"training": settings.training.model_copy(update={"model": "fact-clip"})}
    )
    rows = examine_videos(settings)
    assert "not on this machine" in states(rows, "features")["a"][1]
    assert "not on this machine" in states(rows, "texts")[""][1]
