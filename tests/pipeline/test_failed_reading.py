"""A video that probing finds good and reading does not: the other decoder, the catalogue's row, the stored failure."""

import logging
import subprocess
import sys
from functools import partial

import numpy as np
import pytest

from pipeline import extract_batch as batch_module
from pipeline import guard, guard_process
from pipeline.anywhere import FEATURES_STAGE, extract_anywhere
from pipeline.catalogue import open_video, probe_all
from pipeline.errors import ProcessError
from pipeline.guard import read_guarded
from pipeline.settings import ExtractionSettings
from storage.catalogue import read_catalogue
from storage.failures import read_failures
from storage.features import read_features
from storage.store import Store
from tests.pipeline import fake_decoders

pytestmark = pytest.mark.usefixtures("single_thread", "clip_is_built")

SETTINGS = ExtractionSettings(
    features=("clip:stride=16",), weights="random", device="cpu", decode_timeout_seconds=1.0
)


@pytest.fixture
def scene(tmp_path, h264):
    """A good video and an empty store."""
    path = tmp_path / "film.mp4"
    path.write_bytes(h264.read_bytes())
    return path, Store(tmp_path / "store")


def extract(path, store):
    (outcome,) = extract_anywhere([path], extraction=SETTINGS, store=store.root, cache_gib=1)
    return outcome


def read_by(reader, monkeypatch):
    monkeypatch.setattr("pipeline.extract.read_guarded", partial(read_guarded, reader=reader))


def stored(store):
    return [read_features(path) for path in store.root.rglob("features/clip/*.parquet")]


@pytest.mark.parametrize(
    ("reader", "reason"),
    [
        (fake_decoders.hangs, "the decoder hung, without a step in 1 s"),
        (fake_decoders.dies, "the decoder died (SIGSEGV)"),
        (None, "corrupt after frame "),
    ],
    ids=["hang", "crash", "damage"],
)
def test_what_goes_wrong_while_reading_is_the_row_in_the_catalogue_until_it_goes_well(
    scene, monkeypatch, break_video, reader, reason
):
    film, store = scene
    whole = film.read_bytes()
    if reader is None:
        break_video(film, film, after=20)
    content = open_video(film, store=store).video_hash
    with monkeypatch.context() as patched:
        if reader is not None:
            read_by(reader, patched)
        outcome = extract(film, store)
    assert outcome.status == "failed"
    assert outcome.reason.startswith(f"{film}: {reason}")
    (row,) = read_catalogue(store.catalogue_path)
    assert (row.status, row.error, row.video_hash) == ("failed", outcome.reason, content)
    (failure,) = read_failures(store)
    assert (failure.stage, failure.path, failure.reason) == (FEATURES_STAGE, str(film), outcome.reason)
    assert stored(store) == []
    # A look at what probing found does not make it good; a good reading does.
    assert probe_all([film], store=store) == [row]
    film.write_bytes(whole)
    assert extract(film, store).status == "done"
    (row,) = read_catalogue(store.catalogue_path)
    assert (row.status, row.error) == ("ok", None)
    assert probe_all([film], store=store) == [row]
    assert read_failures(store) == []


def test_a_video_too_short_for_a_profile_is_not_a_bad_one(scene, monkeypatch):
    film, store = scene
    monkeypatch.undo()
    settings = ExtractionSettings(features=("i3d-rgb:window=64:edge=drop",), weights="random", device="cpu")
    (outcome,) = extract_anywhere([film], extraction=settings, store=store.root, cache_gib=1)
    assert "too few for a window of 64 frames" in outcome.reason
    assert [row.status for row in read_catalogue(store.catalogue_path)] == ["ok"]


@pytest.mark.parametrize("code", ["raise MemoryError", "import time; time.sleep(60)"])
def test_a_machine_on_which_no_process_starts_says_nothing_of_its_videos(scene, monkeypatch, code):
    film, store = scene
    open_video(film, store=store)

    def start(self, _pulse):
        command = [sys.executable, "-c", code]
        return subprocess.Popen(command, pass_fds=(self._theirs.fileno(),), stderr=subprocess.DEVNULL)

    monkeypatch.setattr(guard, "_pools", [guard._Pool()])
    monkeypatch.setattr(guard_process, "_START_SECONDS", 0.5)
    monkeypatch.setattr(guard_process.DecodeProcess, "_start", start)
    outcome = extract(film, store)
    assert outcome.status == "failed"
    assert outcome.reason.startswith("A decoding process does not start. Check that this machine has memory")
    (row,) = read_catalogue(store.catalogue_path)
    assert (row.status, row.error, row.decoder) == ("ok", None, open_video(film, store=store).facts.decoder)
    # A decoder is not given up for it either, in probing as little as in reading.
    with pytest.raises(ProcessError):
        guard.probe_guarded(film)


@pytest.mark.parametrize(
    ("reader", "reason"),
    [
        (fake_decoders.decord_hangs, "the decoder hung, without a step in 1 s"),
        (fake_decoders.decord_dies, "the decoder died (SIGSEGV)"),
        (fake_decoders.decord_is_missing, "decord, which was chosen for it, is not installed here"),
        (
            fake_decoders.decord_fails,
            "decord fails on a frame that PyAV decodes ([0:0:0] video_reader.cc:1: ",
        ),
    ],
)
def test_where_decord_goes_wrong_while_reading_pyav_takes_over_and_is_remembered(
    scene, monkeypatch, caplog, reader, reason
):
    film, store = scene
    pytest.importorskip("decord")
    assert open_video(film, store=store).facts.decoder == "decord"
    with monkeypatch.context() as patched, caplog.at_level(logging.WARNING):
        read_by(reader, patched)
        assert extract(film, store).status == "done"
    (line,) = [record.getMessage() for record in caplog.records if record.name == batch_module.__name__]
    assert line.startswith(f"{film}: PyAV decodes it, because {reason}")
    assert "\n" not in line
    (features,) = stored(store)
    assert features.metadata.decoder == "pyav"
    np.testing.assert_allclose(features.time, [0, 16 / 25, 32 / 25])
    # The decoder is part of the key: what looks for the features next must name the one that read them.
    assert open_video(film, store=store).facts.decoder == "pyav"
    (row,) = read_catalogue(store.catalogue_path)
    assert (row.status, row.decoder) == ("ok", "pyav")
    assert extract(film, store).status == "skipped"


def test_stored_features_are_found_where_decord_is_missing(scene, monkeypatch):
    """Nothing is decoded, so that the decoder that made them need not be here."""
    film, store = scene
    pytest.importorskip("decord")
    assert extract(film, store).status == "done"
    read_by(fake_decoders.decord_is_missing, monkeypatch)
    assert extract(film, store).status == "skipped"
    assert [one.metadata.decoder for one in stored(store)] == ["decord"]
