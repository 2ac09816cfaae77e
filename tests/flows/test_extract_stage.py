"""The stage of extraction: how many, whether at all, and the table at the end."""

import json

import pyarrow.parquet as pq
import pytest

from flows import stages
from flows.runner import DirectRunner
from pipeline import anywhere
from pipeline.errors import DatasetError
from pipeline.outcome import VideoOutcome
from pipeline.settings import ExtractSettings


@pytest.fixture
def asked(monkeypatch):
    """What the two steps were asked to do; no video is looked at."""
    calls = []

    def step(name, status):
        def work(paths, *, extraction, store):  # noqa: ARG001
            calls.append((name, [path.name for path in paths]))
            return [VideoOutcome(video=path.stem, status=status, path=str(path)) for path in paths]

        return work

    monkeypatch.setattr(anywhere, "extract_batch", step("extract", "done"))
    monkeypatch.setattr(anywhere, "plan_batch", step("plan", "skipped"))
    return calls


@pytest.fixture
def videos(tmp_path):
    folder = tmp_path / "videos"
    folder.mkdir()
    for name in "abcd":
        (folder / f"{name}.mp4").write_bytes(b"\0\1\2" * 100)
    (folder / "notes.tsv").write_text("text\n")
    return folder


def run(videos, tmp_path, **settings):
    extraction = {"features": ("i3d-rgb",), "weights": "random", "batch_videos": 2}
    return stages.extract(
        ExtractSettings(store=tmp_path / "store", videos=(videos,), extraction=extraction, **settings),
        DirectRunner(),
    )


def test_the_table_lists_every_file_with_its_reason(asked, videos, tmp_path):
    report = run(videos, tmp_path)
    assert asked == [("extract", ["a.mp4", "b.mp4"]), ("extract", ["c.mp4", "d.mp4"])]
    parquet = tmp_path / "store" / "tables" / "extract.parquet"
    assert report.facts["table"] == str(parquet)
    rows = pq.read_table(parquet).to_pylist()
    assert rows == json.loads(parquet.with_suffix(".json").read_text())["videos"]
    assert [(row["video"], row["status"], row["reason"]) for row in rows] == [
        ("notes.tsv", "skipped", "not a video"),
        *((name, "done", "") for name in "abcd"),
    ]


def test_the_table_goes_where_it_is_asked_to(asked, videos, tmp_path):
    run(videos, tmp_path, table=tmp_path / "out", limit=1)
    assert {path.name for path in (tmp_path / "out").iterdir()} >= {"extract.parquet", "extract.json"}
    assert asked == [("extract", ["a.mp4"])]


@pytest.mark.parametrize("name", ["gone.mp4", "x" * 300])
def test_a_path_that_is_not_there_waits_for_no_weights_and_makes_no_store(asked, tmp_path, monkeypatch, name):
    monkeypatch.setattr(stages, "resolve_extraction", lambda *_, **__: pytest.fail("looked for weights"))
    with pytest.raises(DatasetError, match=f"{name} is not there. Check the path"):
        run(tmp_path / name, tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="holds no file"):
        run(tmp_path / "empty", tmp_path)
    assert not (tmp_path / "store").exists()
    assert asked == []


def test_of_several_files_one_that_is_not_there_harms_no_other(asked, videos, tmp_path):
    given = (videos / "a.mp4", tmp_path / "gone.mp4")
    extraction = {"features": ("i3d-rgb",), "weights": "random"}
    stages.extract(
        ExtractSettings(store=tmp_path / "store", videos=given, extraction=extraction), DirectRunner()
    )
    assert asked == [("extract", ["a.mp4", "gone.mp4"])]


def test_a_dry_run_plans_and_writes_no_table(asked, videos, tmp_path):
    report = run(videos, tmp_path, dry_run=True, limit=3)
    assert asked == [("plan", ["a.mp4", "b.mp4"]), ("plan", ["c.mp4"])]
    assert not (tmp_path / "store" / "tables").exists()
    assert "table" not in report.facts
