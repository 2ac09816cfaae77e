"""A video that changes while it is worked on: one sentence with its name, and nothing of it is kept."""

import os
from pathlib import Path

import pytest

from pipeline import progress
from pipeline.extract_batch import extract_batch
from pipeline.guard import probe_guarded, read_guarded
from pipeline.settings import ExtractionSettings
from storage.catalogue import read_catalogue
from storage.features import read_features
from storage.store import Store

pytestmark = pytest.mark.usefixtures("single_thread", "clip_is_built")

SETTINGS = ExtractionSettings(features=("clip:stride=16",), weights="random", device="cpu")
CHANGED = "changed while it was read. Run the same command when it is complete."
REMOVED = "was removed while it was read. Put it back and run the same command, or leave it out."


def appended(path):
    with path.open("ab") as file:
        file.write((8).to_bytes(4, "big") + b"free")


def truncated(path):
    os.truncate(path, path.stat().st_size // 2)


def rewritten(path):
    """As long as before, in place: another content under the old name and inode."""
    content = bytearray(path.read_bytes())
    content[-40:] = bytes(40)
    path.write_bytes(content)


def emptied(path):
    path.write_bytes(b"")


def replaced(path):
    other = path.with_name("other")
    other.write_bytes(path.read_bytes() + b"\0" * 8)
    other.replace(path)


def replaced_by_text(path):
    path.write_text("no video any more\n")


CHANGES = [appended, truncated, rewritten, emptied, replaced, replaced_by_text, Path.unlink]


@pytest.fixture
def film(tmp_path, h264):
    path = tmp_path / "film.mp4"
    path.write_bytes(h264.read_bytes())
    return path


def during_probing(change, monkeypatch):
    def probe(path, rules):
        change(path)
        return probe_guarded(path, rules=rules)

    monkeypatch.setattr("pipeline.catalogue.probe_guarded", probe)


def after_probing(change, monkeypatch):
    def probe(path, rules):
        facts = probe_guarded(path, rules=rules)
        change(path)
        return facts

    monkeypatch.setattr("pipeline.catalogue.probe_guarded", probe)


def before_decoding(change, monkeypatch):
    def read(path, *args, **options):
        change(path)
        yield from read_guarded(path, *args, **options)

    monkeypatch.setattr("pipeline.extract.read_guarded", read)


def during_decoding(change, monkeypatch):
    monkeypatch.setattr("pipeline.extract._MAX_BATCH_FRAMES", 8)

    def read(path, *args, **options):
        batches = read_guarded(path, *args, **options)
        yield next(batches)
        change(path)
        yield from batches

    monkeypatch.setattr("pipeline.extract.read_guarded", read)


def after_decoding(change, monkeypatch):
    def read(path, *args, **options):
        yield from read_guarded(path, *args, **options)
        change(path)

    monkeypatch.setattr("pipeline.extract.read_guarded", read)


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize(
    "moment", [during_probing, after_probing, before_decoding, during_decoding, after_decoding]
)
def test_a_video_that_changes_at_any_moment_is_one_sentence_and_leaves_nothing(
    film, tmp_path, monkeypatch, moment, change
):
    whole = film.read_bytes()
    with monkeypatch.context() as patched:
        moment(change, patched)
        (outcome,) = extract_batch([film], extraction=SETTINGS, store=tmp_path / "store")
    assert outcome.status == "failed"
    assert outcome.reason == f"{film}: {REMOVED if change is Path.unlink else CHANGED}"
    store = Store(tmp_path / "store")
    assert not [
        path for path in store.root.rglob("features/**/*") if path.is_file() and path.suffix != ".lock"
    ]
    if moment in {during_probing, after_probing}:
        assert not list(store.root.glob("timelines/*.parquet"))
        assert [row.error for row in read_catalogue(store.catalogue_path)] == [outcome.reason]
    # The content that the store knows is done as if nothing had been.
    film.write_bytes(whole)
    (outcome,) = extract_batch([film], extraction=SETTINGS, store=store.root)
    assert (outcome.status, outcome.reason) == ("done", "")
    (file,) = store.root.rglob("features/clip/*.parquet")
    assert len(read_features(file).time) == 3


def test_a_file_that_is_only_touched_is_done(film, tmp_path, monkeypatch):
    during_decoding(Path.touch, monkeypatch)
    (outcome,) = extract_batch([film], extraction=SETTINGS, store=tmp_path / "store")
    assert outcome.status == "done"


def test_no_step_is_made_of_pictures_read_after_the_change(film, tmp_path, monkeypatch):
    """Else a run that is killed then would leave parts of another content under this one's key."""
    during_decoding(rewritten, monkeypatch)
    heard = []
    with progress.listening(heard.append):
        extract_batch([film], extraction=SETTINGS, store=tmp_path / "store")
    assert all(one.done <= 8 for one in heard)
