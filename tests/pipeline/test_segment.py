"""New videos: segments by a trained model, without labels, and without weights where features are stored."""

import shutil
from functools import partial

import pytest

from pipeline import segment
from pipeline.catalogue import open_video
from pipeline.errors import WeightsError
from pipeline.extract_batch import extract_batch
from pipeline.guard import read_guarded
from pipeline.inputs import inputs_of_model
from pipeline.model import read_description
from pipeline.segment import choose_run, segment_batch
from pipeline.settings import SegmentSettings
from storage.errors import MissingArtefactError
from storage.registry import Registry
from storage.segments import read_segments
from storage.store import Store
from tests.pipeline import fake_decoders

pytestmark = pytest.mark.usefixtures("single_thread")


@pytest.fixture(autouse=True)
def forget_models():
    """Models are remembered by folder; a test that changes one must not meet the last test's."""
    segment._model.cache_clear()
    segment._inputs.cache_clear()
    segment._labels.cache_clear()


def segment_videos(dataset, store, run, *names):
    paths = [dataset.root / "videos" / name for name in names]
    return segment_batch(paths, settings=SegmentSettings(videos=paths, store=store, device="cpu"), run=run)


def refuse(*_args, **_kwargs):
    raise AssertionError("nothing but stored features is needed")


def test_a_video_with_stored_features_needs_no_weights_and_no_decoding(
    tiny, own_store, tiny_run, monkeypatch
):
    monkeypatch.setattr("pipeline.inputs.resolve_weights", refuse)
    monkeypatch.setattr("pipeline.segment.extract_batch", refuse)
    (made,) = segment_videos(tiny, own_store, tiny_run, "x.mp4")
    assert (made.outcome.video, made.outcome.status) == ("x", "done")
    segments, facts = read_segments(Store(own_store).prediction_path(made.prediction))
    assert (segments[0].start_frame, segments[-1].end_frame) == (0, 60)
    assert facts["run"] == tiny_run
    assert len(facts["notices"]) == 2


def test_a_second_time_the_stored_segments_are_the_answer(tiny, own_store, tiny_run, monkeypatch):
    (first,) = segment_videos(tiny, own_store, tiny_run, "x.mp4")
    monkeypatch.setattr("pipeline.segment.load_model", refuse)
    segment._model.cache_clear()
    (again,) = segment_videos(tiny, own_store, tiny_run, "x.mp4")
    assert again.outcome.status == "skipped"
    assert again.prediction == first.prediction


def test_a_bad_video_harms_no_other(tiny, own_store, tiny_run, tmp_path):
    for name in ("x.mp4", "y.mp4"):
        shutil.copy(tiny.root / "videos" / name, tmp_path)
    bad, gone = tmp_path / "bad.mp4", tmp_path / "gone.mp4"
    bad.write_text("not a video")
    paths = [tmp_path / "x.mp4", bad, gone, tmp_path / "y.mp4"]
    made = segment_batch(paths, settings=SegmentSettings(videos=paths, store=own_store), run=tiny_run)
    assert [one.outcome.status for one in made] == ["done", "failed", "failed", "done"]
    assert [bool(one.prediction) for one in made] == [True, False, False, True]
    assert str(bad) in made[1].outcome.reason
    assert str(gone) in made[2].outcome.reason


def test_a_video_that_decord_cannot_read_is_segmented_by_what_pyav_reads(
    tiny, own_store, tiny_run, tmp_path, monkeypatch
):
    pytest.importorskip("decord")
    path = tmp_path / "new.mp4"
    path.write_bytes((tiny.root / "videos" / "x.mp4").read_bytes() + (8).to_bytes(4, "big") + b"free")
    settings = SegmentSettings(videos=[path], store=own_store, device="cpu")
    assert open_video(path, store=Store(own_store)).facts.decoder == "decord"
    monkeypatch.setattr(
        "pipeline.extract.read_guarded", partial(read_guarded, reader=fake_decoders.decord_dies)
    )
    (made,) = segment_batch([path], settings=settings, run=tiny_run)
    assert (made.outcome.status, made.outcome.reason) == ("done", "")
    monkeypatch.setattr("pipeline.extract.read_guarded", refuse)
    (again,) = segment_batch([path], settings=settings, run=tiny_run)
    assert (again.outcome.status, again.prediction) == ("skipped", made.prediction)


def test_where_a_device_works_on_several_videos_those_without_features_are_extracted_together(
    tiny, own_store, tiny_run, tmp_path, monkeypatch
):
    content = (tiny.root / "videos" / "x.mp4").read_bytes()
    for name in ("new", "other"):
        (tmp_path / f"{name}.mp4").write_bytes(
            content + (16).to_bytes(4, "big") + b"free" + name.encode()[:3] * 2 + b".."
        )
    bad = tmp_path / "bad.mp4"
    bad.write_text("not a video")
    paths = [tmp_path / "new.mp4", tiny.root / "videos" / "x.mp4", bad, tmp_path / "other.mp4"]
    settings = SegmentSettings(videos=paths, store=own_store, device="cpu")
    batches = []

    def extract(some, **how):
        batches.append([path.name for path in some])
        return extract_batch(some, **how)

    monkeypatch.setattr("pipeline.segment.extract_batch", extract)
    monkeypatch.setattr("pipeline.segment.videos_at_once", lambda _: 4)
    made = segment_batch(paths, settings=settings, run=tiny_run)
    assert batches == [["new.mp4", "other.mp4"]]
    assert [one.outcome.status for one in made] == ["done", "done", "failed", "done"]
    assert made[0].outcome.seconds > 0
    alone = segment_batch(paths[:1], settings=settings, run=tiny_run)
    assert (alone[0].outcome.status, alone[0].prediction) == ("skipped", made[0].prediction)


def test_a_video_that_fails_among_others_is_tried_once(tiny, own_store, tiny_run, tmp_path, monkeypatch):
    path = tmp_path / "new.mp4"
    path.write_bytes((tiny.root / "videos" / "x.mp4").read_bytes() + (8).to_bytes(4, "big") + b"free")
    monkeypatch.setattr("pipeline.segment.videos_at_once", lambda _: 4)
    monkeypatch.setattr("pipeline.extract.read_guarded", partial(read_guarded, reader=fake_decoders.throws))
    tries = []
    monkeypatch.setattr(
        "pipeline.segment.extract_batch", lambda some, **how: tries.append(some) or extract_batch(some, **how)
    )
    settings = SegmentSettings(videos=[path], store=own_store, device="cpu")
    (made,) = segment_batch([path], settings=settings, run=tiny_run)
    assert tries == [[path]]
    assert (made.outcome.status, made.path, made.prediction) == ("failed", str(path), "")
    assert "IndexError" in made.outcome.reason


def test_the_whole_part_of_a_damaged_video_is_segmented_where_that_is_asked_for(
    tiny, own_store, tiny_run, tmp_path, break_video
):
    broken = break_video(tiny.root / "videos" / "x.mp4", tmp_path / "broken.mp4", after=40)
    made = {
        rule: segment_batch(
            [broken],
            settings=SegmentSettings(videos=[broken], store=own_store, device="cpu", on_corrupt=rule),
            run=tiny_run,
        )[0]
        for rule in ("fail", "keep-decodable")
    }
    assert made["fail"].outcome.status == "failed"
    assert "--on-corrupt keep-decodable" in made["fail"].outcome.reason
    assert made["keep-decodable"].outcome.status == "done"
    segments, _ = read_segments(Store(own_store).prediction_path(made["keep-decodable"].prediction))
    assert 0 < segments[-1].end_frame < 60


def test_features_by_other_weights_are_refused_and_both_are_named(tiny, own_store, tiny_run, monkeypatch):
    asked = inputs_of_model(read_description(Store(own_store).run_folder(tiny_run)).inputs)
    monkeypatch.setattr("pipeline.weights.version", lambda _: "0.0")
    monkeypatch.setattr("pipeline.segment.extract_batch", refuse)
    store = Store(own_store)
    shutil.rmtree(store.root / "features")
    (made,) = segment_videos(tiny, own_store, tiny_run, "x.mp4")
    assert made.outcome.status == "failed"
    assert "i3d-rgb:stride=4" in made.outcome.reason
    assert asked[0].weights_digest[:12] in made.outcome.reason
    assert "drawn by another version of torch" in made.outcome.reason
    assert "train again" in made.outcome.reason


def test_weights_that_cannot_be_had_are_one_sentence_per_video(tiny, own_store, tiny_run, monkeypatch):
    def missing(*_args, **_kwargs):
        raise WeightsError("No weights of i3d-rgb. Put them there.")

    shutil.rmtree(own_store / "features")
    monkeypatch.setattr("pipeline.inputs.resolve_weights", missing)
    made = segment_videos(tiny, own_store, tiny_run, "x.mp4", "y.mp4")
    assert [one.outcome.reason for one in made] == ["No weights of i3d-rgb. Put them there."] * 2


def test_extraction_that_fails_is_the_videos_failure(tiny, own_store, tiny_run, monkeypatch):
    from pipeline.outcome import VideoOutcome

    shutil.rmtree(own_store / "features")
    failed = VideoOutcome(video="x", status="failed", reason="x.mp4: cut short. Replace it.")
    asked = []

    def extract(paths, *, extraction, store):
        asked.append((paths, extraction, store))
        return [failed]

    monkeypatch.setattr("pipeline.segment.extract_batch", extract)
    (made,) = segment_videos(tiny, own_store, tiny_run, "x.mp4")
    assert made.outcome == failed
    assert made.outcome.seconds > 0
    ((paths, extraction, store),) = asked
    assert (paths, store) == ([tiny.root / "videos" / "x.mp4"], own_store)
    assert extraction.features == ("i3d-rgb:stride=4", "clip:stride=2")
    assert extraction.weights == "random"


def test_the_weights_that_a_user_names_reach_extraction(tiny, own_store, tiny_run, monkeypatch, tmp_path):
    shutil.rmtree(own_store / "features")
    seen = []

    def resolve(settings, *, store):
        seen.append((settings.clip_pretrained, settings.device, store.root))
        raise WeightsError("stop here")

    monkeypatch.setattr("pipeline.segment.inputs_of_settings", resolve)
    path = tiny.root / "videos" / "x.mp4"
    settings = SegmentSettings(videos=(path,), store=own_store, clip_pretrained=str(tmp_path), device="cpu")
    segment_batch([path], settings=settings, run=tiny_run)
    assert seen == [(str(tmp_path), "cpu", own_store)]


def test_the_run_is_the_one_asked_for_else_the_champion(tiny_store, tiny_run, tmp_path, monkeypatch):
    settings = SegmentSettings(videos=("x",), store=tiny_store)
    assert choose_run(settings.model_copy(update={"run": tiny_run[:10]})) == tiny_run
    monkeypatch.setattr(
        Registry, "champion", lambda _self, name: type("Entry", (), {"run": f"run of {name}"})
    )
    assert choose_run(settings.model_copy(update={"model": "tea"})) == "run of tea"
    monkeypatch.undo()
    with pytest.raises(MissingArtefactError, match="has no trained model"):
        choose_run(SegmentSettings(videos=("x",), store=Store(tmp_path / "store").root))
    with pytest.raises(MissingArtefactError, match="There is no store"):
        choose_run(SegmentSettings(videos=("x",), store=tmp_path / "none"))
    assert not (tmp_path / "none").exists()


def test_damaged_segments_are_named_with_the_remedy(tiny, own_store, tiny_run):
    (made,) = segment_videos(tiny, own_store, tiny_run, "x.mp4")
    path = Store(own_store).prediction_path(made.prediction)
    path.write_bytes(b"half")
    (again,) = segment_videos(tiny, own_store, tiny_run, "x.mp4")
    assert again.outcome.status == "failed"
    assert str(path) in again.outcome.reason
    assert "Delete it" in again.outcome.reason


def test_a_full_disk_fails_its_video_with_a_sentence(tiny, own_store, tiny_run, monkeypatch):
    def full(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pipeline.segment.write_segments", full)
    made = segment_videos(tiny, own_store, tiny_run, "x.mp4", "y.mp4")
    assert [one.outcome.status for one in made] == ["failed", "failed"]
    assert "x.mp4: No space left on device. Check the disk" in made[0].outcome.reason
    assert not list(own_store.rglob("*.part"))


def test_other_labels_need_a_model_with_texts(tiny, own_store, tiny_run):
    path = tiny.root / "videos" / "x.mp4"
    settings = SegmentSettings(videos=(path,), store=own_store, device="cpu", labels=("open the box",))
    (made,) = segment_batch([path], settings=settings, run=tiny_run)
    assert made.outcome.status == "failed"
    assert "--model fact-clip" in made.outcome.reason
