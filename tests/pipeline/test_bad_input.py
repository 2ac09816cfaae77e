"""Bad input through whole stages: one clear sentence with file and remedy, the others go on, nothing is left half."""

import shutil

import pytest

from flows.invoke import execute
from pipeline.errors import DatasetError
from pipeline.settings import ExtractionSettings, ExtractSettings
from storage.folders import MANIFEST
from storage.health import examine_store
from storage.store import Store
from tests.pipeline.tiny import TRAIN, TinyDataset, one_thread, write_split

pytestmark = pytest.mark.usefixtures("single_thread", "clip_is_built")

CLIP = ExtractionSettings(features=("clip:stride=16",), weights="random", device="cpu")


@pytest.fixture
def own(tiny, tmp_path):
    """The tiny data set, for the test to spoil, with two training videos to keep it quick."""
    shutil.copytree(tiny.root, tmp_path / "data")
    return TinyDataset(tmp_path / "data")


def run_settings(dataset, store):
    return dataset.settings(store, epochs=1).model_copy(update={"extraction": CLIP})


@pytest.fixture(scope="module")
def registered(tiny, tmp_path_factory):
    """A store after one full pipeline on stored features: a run, scores and the registry's tables."""
    store = tmp_path_factory.mktemp("full") / "store"
    tiny.fill(store, extraction=CLIP)
    with one_thread():
        report = execute("full-pipeline", run_settings(tiny, store), direct=True)
    assert {outcome.status for outcome in report.outcomes} == {"skipped"}
    return store


@pytest.fixture
def store(registered, tmp_path):
    """A copy of that store, in which every good video is known already."""
    return shutil.copytree(registered, tmp_path / "store")


def assert_whole(store):
    """Nothing half-written: no scratch file, and every artefact opens."""
    assert not list(store.rglob("*.part"))
    assert examine_store(Store(store)).problems == ()
    for folder in [*store.glob("runs/*"), *store.glob("evaluations/*")]:
        if folder.is_dir():
            assert (folder / MANIFEST).exists()


def statuses(report):
    return {outcome.video: outcome.status for outcome in report.outcomes}


def reason_of(report, video):
    (reason,) = (one.reason for one in report.outcomes if one.video == video and one.status == "failed")
    assert "\n" not in reason
    assert reason.endswith(".")
    return reason


def missing(folder):
    shutil.rmtree(folder)
    return "no such folder. Give the folder that holds the videos."


def empty(folder):
    shutil.rmtree(folder)
    folder.mkdir()
    return "holds no file. Put the videos directly into this folder."


def texts_only(folder):
    empty(folder)
    (folder / "notes.txt").write_text("hello")
    return "holds no video (1 other files). Give a folder of videos."


@pytest.mark.parametrize("spoil", [missing, empty, texts_only])
def test_a_data_set_without_videos_is_one_sentence(own, tmp_path, spoil):
    folder, store = own.root / "videos", tmp_path / "store"
    remedy = spoil(folder)
    with pytest.raises(DatasetError) as caught:
        execute("full-pipeline", run_settings(own, store), direct=True)
    assert str(caught.value) in {f"{folder}: {remedy}", f"{folder} {remedy}"}
    assert_whole(store)


@pytest.mark.parametrize("spoil", [empty, texts_only])
def test_a_folder_without_videos_is_one_sentence(tmp_path, spoil):
    folder, store = tmp_path / "videos", tmp_path / "store"
    folder.mkdir()
    remedy = spoil(folder)
    with pytest.raises(DatasetError) as caught:
        execute("extract", ExtractSettings(store=store, videos=(folder,), extraction=CLIP), direct=True)
    assert str(caught.value) in {f"{folder}: {remedy}", f"{folder} {remedy}"}
    assert_whole(store)


def test_a_path_that_does_not_exist_fails_and_the_others_are_extracted(own, tmp_path):
    gone, good, store = tmp_path / "gone", own.root / "videos" / "a.mp4", tmp_path / "store"
    report = execute(
        "extract", ExtractSettings(store=store, videos=(gone, good), extraction=CLIP), direct=True
    )
    assert statuses(report) == {"gone": "failed", "a": "done"}
    assert reason_of(report, "gone") == f"{gone}: no such file. Check the path."
    assert_whole(store)


def test_files_that_are_no_videos_are_named_and_the_others_extracted(own, tmp_path):
    folder, store = own.root / "videos", tmp_path / "store"
    content = (folder / "a.mp4").read_bytes()
    (folder / "text.mp4").write_text("this is text")
    (folder / "cut.mp4").write_bytes(content[: len(content) // 2])
    (folder / "void.mp4").write_bytes(b"")
    (folder / "notes.txt").write_text("hello")
    for name in ("b", "c", "y"):
        (folder / f"{name}.mp4").unlink()
    report = execute("extract", ExtractSettings(store=store, videos=(folder,), extraction=CLIP), direct=True)
    assert statuses(report) == {
        "a": "done",
        "x": "done",
        "cut": "failed",
        "text": "failed",
        "void": "failed",
        "notes.txt": "skipped",
    }
    for video, remedy in {
        "text": "not a video but text. Leave it out",
        "cut": "replace it by an intact copy, or leave it out",
        "void": "empty file. Replace it by an intact copy",
    }.items():
        assert reason_of(report, video).startswith(str(folder / f"{video}.mp4"))
        assert remedy in reason_of(report, video)
    assert len(list(store.glob("features/clip/*.parquet"))) == 2
    assert_whole(store)


def test_a_video_that_breaks_off_while_it_is_decoded_leaves_nothing(own, tmp_path):
    """The header is whole and so is the first part: only decoding finds out."""
    folder, store = own.root / "videos", tmp_path / "store"
    path = folder / "a.mp4"
    content = bytearray(path.read_bytes())
    start = content.index(b"mdat") + 4
    middle = start + (len(content) - start) // 4
    content[middle : middle + 6000] = b"\xff" * 6000
    path.write_bytes(bytes(content))
    report = execute(
        "extract",
        ExtractSettings(store=store, videos=(path, folder / "x.mp4"), extraction=CLIP),
        direct=True,
    )
    assert statuses(report) == {"a": "failed", "x": "done"}
    assert reason_of(report, "a").startswith(str(path))
    assert len(list(store.glob("features/clip/*.parquet"))) == 1
    assert_whole(store)


def truncated(own):
    path = own.root / "videos" / "b.mp4"
    path.write_bytes(path.read_bytes()[:4000])
    return str(path), "intact copy"


def text_video(own):
    path = own.root / "videos" / "b.mp4"
    path.write_text("this is text")
    return str(path), "not a video but text"


def absent(own):
    (own.root / "videos" / "b.mp4").unlink()
    return "names video 'b'", "Add the video, or remove the line from the split"


def without_labels(own):
    path = own.root / "labels" / "b.txt"
    path.unlink()
    return str(path), "Add the file, or remove the video from the split"


def unknown_class(own):
    path = own.root / "labels" / "b.txt"
    path.write_text(path.read_text().replace("stir", "stirr", 1))
    return str(path), "nearest: 'stir'"


def far_too_long(own):
    path = own.root / "labels" / "b.txt"
    path.write_text(path.read_text() + "stir\n" * 11)
    return str(path), "Give one label per video frame"


def far_too_short(own):
    path = own.root / "labels" / "b.txt"
    path.write_text("stir\n" * 49)
    return str(path), "Give one label per video frame"


SPOILERS = [truncated, text_video, absent, without_labels, unknown_class, far_too_long, far_too_short]


@pytest.mark.parametrize("spoil", SPOILERS)
def test_a_bad_training_video_is_named_and_the_chain_goes_on_without_it(own, store, spoil):
    expected = spoil(own)
    report = execute("full-pipeline", run_settings(own, store), direct=True)
    assert {video for video, status in statuses(report).items() if status == "failed"} == {"b"}
    for part in expected:
        assert part in reason_of(report, "b")
    assert report.facts["train"]["trained"]
    assert report.facts["evaluate"]["evaluated"]
    assert_whole(store)


@pytest.mark.parametrize("spoil", [truncated, absent, unknown_class])
def test_a_bad_test_video_is_named_and_the_rest_is_scored(own, store, spoil):
    write_split(own.root, train="ac", test="bxy")
    expected = spoil(own)
    report = execute("full-pipeline", run_settings(own, store), direct=True)
    for part in expected:
        assert part in reason_of(report, "b")
    assert report.facts["evaluate"]["evaluated"]
    assert_whole(store)


@pytest.mark.parametrize("surplus", [-10, -1, 1, 10])
def test_labels_within_the_tolerance_are_cut_and_it_is_said(own, store, surplus):
    path = own.root / "labels" / "b.txt"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:surplus] if surplus < 0 else lines + lines[-1:] * surplus))
    report = execute("train", run_settings(own, store), direct=True)
    assert statuses(report) == dict.fromkeys(TRAIN, "done")
    (note,) = (note for note in report.notes if str(path) in note)
    assert f"{60 + surplus} labels for 60 frames" in note
    assert_whole(store)


def test_a_split_that_lost_all_its_videos_ends_the_chain_with_one_sentence(own, store):
    write_split(own.root, train=("nobody", "none"), test="xy")
    with pytest.raises(DatasetError) as caught:
        execute("full-pipeline", run_settings(own, store), direct=True)
    assert str(caught.value).startswith("None of the 2 training videos can be used; the first: ")
    assert "'nobody'" in str(caught.value)
    assert_whole(store)


def test_a_second_run_over_bad_input_does_only_what_is_left(own, store):
    truncated(own)
    first = execute("full-pipeline", run_settings(own, store), direct=True)
    again = execute("full-pipeline", run_settings(own, store), direct=True)
    assert statuses(again) == {"a": "skipped", "b": "failed", "c": "skipped", "x": "skipped", "y": "skipped"}
    assert again.facts["train"] == {**first.facts["train"], "trained": False}
    assert again.facts["evaluate"]["evaluated"] is False
    assert again.facts["evaluate"]["champion"] == first.facts["evaluate"]["champion"]
