"""Videos of one name in several folders keep rows of their own."""

import shutil

import pytest

from flows import stages
from flows.runner import DirectRunner
from pipeline import anywhere
from pipeline.outcome import VideoOutcome
from pipeline.settings import ExtractSettings


@pytest.fixture
def kitchens(tmp_path):
    """Two folders with a file of one name, a deeper one, and a note."""
    for place in ("P01", "P02", "P02/deep"):
        (tmp_path / place).mkdir()
        (tmp_path / place / "cam.mp4").write_bytes(b"\0\1\2")
    (tmp_path / "P01" / "notes.tsv").write_text("a\tb\n")
    return [tmp_path / "P01", tmp_path / "P02"]


@pytest.fixture
def outcomes_of(monkeypatch, tmp_path):
    """The rows of an extraction that does nothing."""
    monkeypatch.setattr(stages, "resolve_extraction", lambda *_args, **_options: {})
    monkeypatch.setattr(
        anywhere,
        "extract_batch",
        lambda paths, **_options: [VideoOutcome(video=path.stem, status="done") for path in paths],
    )

    def run(videos, **options):
        settings = ExtractSettings(videos=tuple(videos), store=tmp_path / "store", **options)
        return {(one.video, one.status) for one in stages.extract(settings, DirectRunner()).outcomes}

    return run


def test_equal_names_are_told_apart_by_their_folders(kitchens, outcomes_of):
    assert outcomes_of(kitchens) == {("P01/cam", "done"), ("P02/cam", "done"), ("notes.tsv", "skipped")}


def test_deeper_folders_count_when_asked_for(kitchens, outcomes_of):
    expected = {("P01/cam", "done"), ("P02/cam", "done"), ("deep/cam", "done"), ("notes.tsv", "skipped")}
    assert outcomes_of(kitchens, recursive=True) == expected


def test_a_name_that_is_there_once_stays_short(kitchens, outcomes_of):
    shutil.rmtree(kitchens[0])
    assert outcomes_of(kitchens[1:]) == {("cam", "done")}
