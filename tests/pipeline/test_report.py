"""The report is read back the way its readers do: as HTML by a parser and a browser, as JSON, as Markdown."""

import itertools
import json
import re
import shutil
import subprocess
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import DatasetError, LabelError
from pipeline.metrics import LabelledPrediction, evaluate
from pipeline.metrics_zero_shot import evaluate_generalized
from pipeline.report import Failure, Report, VideoTimeline, write_report, write_timeline_page
from pipeline.report_colors import class_colors
from pipeline.report_tables import TABLES, read_counts
from pipeline.report_timelines import timeline_columns, timeline_data

EVIL_CLASS = "<script>alert('class')</script>"
EVIL_VIDEO = "</script><img src=x onerror=alert(1)>.mp4"
NAMES = ("background", "reach & grasp", EVIL_CLASS, "place | lift")
FPS = 10.0
VOID = {"meta", "link", "br", "img", "input", "hr"}


def labels(*runs: tuple[int, int]) -> np.ndarray:
    return np.concatenate([np.full(length, label, dtype=np.int64) for label, length in runs])


def make_report(**changes: Any) -> Report:
    truths = {
        "good": (labels((0, 10), (1, 20), (2, 10)), labels((0, 12), (1, 18), (2, 10))),
        EVIL_VIDEO: (labels((1, 20), (3, 20)), labels((1, 5), (2, 5), (1, 10), (3, 20))),
        "bad": (labels((2, 30)), labels((3, 30))),
    }
    videos = [LabelledPrediction(video_id=v, truth=t, predicted=p) for v, (t, p) in truths.items()]
    report = Report(
        title="Bench <b>1</b>",
        run_id="run-7",
        created_at="2025-01-02 03:04 UTC",
        scores=[evaluate(videos, class_names=NAMES, background=[0], convention=c) for c in ("mstcn", "fact")],
        zero_shot=[evaluate_generalized(videos, unseen=[2], class_names=NAMES)],
        timelines=[
            VideoTimeline(
                video_id=v,
                times=np.arange(len(t)) / FPS,
                truth=t,
                predicted=p,
                confidence=np.linspace(0.2, 0.9, len(t)),
            )
            for v, (t, p) in truths.items()
        ],
        epochs=[
            {"epoch": 1, "train loss": 2.5, "validation f1@50": 10.0, "learning rate": 1e-3},
            {"epoch": 2, "train loss": float("nan"), "validation f1@50": 30.0, "learning rate": 1e-3},
        ],
        settings={"seed": 7, "model": {"tokens": 18, "blocks": ["i", "u"], "width": {"frame": 512}}},
        lineage={"git revision": "abc123", "weights": "random, seed 0"},
        notices=["The weights are random & prove <nothing>."],
        failures=[Failure(what="broken<i>.mp4", reason="no frame could be decoded")],
    )
    return replace(report, **changes)


@dataclass
class Page(HTMLParser):
    """Well-formedness, text and attributes of a page."""

    tags: list[tuple[str, dict[str, str | None]]] = field(default_factory=list)
    texts: list[tuple[str, str]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    open_tags: list[str] = field(default_factory=list)

    def __post_init__(self):
        super().__init__()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open_tags.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if not self.open_tags or self.open_tags[-1] != tag:
            self.problems.append(f"</{tag}> closes {self.open_tags[-1:]} at {self.getpos()}")
        else:
            self.open_tags.pop()

    def handle_data(self, data):
        self.texts.append((self.open_tags[-1] if self.open_tags else "", data))

    def text_in(self, tag: str) -> list[str]:
        return [text.strip() for where, text in self.texts if where == tag and text.strip()]

    @property
    def data(self) -> dict[str, Any]:
        at = [attrs.get("type") for tag, attrs in self.tags if tag == "script"].index("application/json")
        return json.loads(self.text_in("script")[at])


def parse(path: Path) -> Page:
    page = Page()
    page.feed(path.read_text(encoding="utf-8"))
    page.close()
    return page


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    write_report(folder, make_report())
    write_timeline_page(
        folder / "new.html",
        title=EVIL_VIDEO,
        class_names=NAMES,
        timelines=[
            VideoTimeline(video_id=EVIL_VIDEO, times=np.arange(20) / FPS, predicted=labels((2, 5), (1, 15)))
        ],
        background=[0],
    )
    return folder


@pytest.fixture(params=["report.html", "new.html"])
def page(folder, request):
    return parse(folder / request.param)


# --- the page as text ---------------------------------------------------------------------------------------


def test_pages_are_well_formed(page):
    assert page.problems == []
    assert page.open_tags == []


def test_pages_fetch_nothing(folder, page):
    for tag, attrs in page.tags:
        assert tag not in {"link", "img", "iframe", "object", "embed", "base"}
        for name in ("src", "srcset", "data", "action", "poster", "background", "xlink:href"):
            assert name not in attrs
        assert (attrs.get("href") or "#").startswith("#")
    for name in ("report.html", "new.html"):
        text = (folder / name).read_text(encoding="utf-8")
        assert not re.search(r"https?:|url\(|@import|\bfetch\(|XMLHttpRequest|WebSocket|import\(", text)


def test_pages_forbid_any_other_script(page):
    (policy,) = (a["content"] for t, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy
    assert "'unsafe-inline'" not in policy.split("script-src")[1].split(";")[0]
    scripts = [attrs for tag, attrs in page.tags if tag == "script"]
    assert policy.count("'sha256-") == len([attrs for attrs in scripts if "type" not in attrs])


def test_names_never_become_markup(folder, page):
    assert not any(
        "alert" in str(value) for _, attrs in page.tags for name, value in attrs.items() if name[:2] == "on"
    )
    assert EVIL_CLASS in page.data["classes"]
    for name in ("report.html", "new.html", "report.md"):
        text = (folder / name).read_text(encoding="utf-8")
        assert "<script>alert" not in text
        assert "<img" not in text
        assert "broken<i>" not in text


def test_names_are_shown_as_they_are(folder):
    page = parse(folder / "report.html")
    assert EVIL_CLASS in page.text_in("button")
    assert EVIL_VIDEO in page.text_in("h3")
    assert page.text_in("h1") == ["Bench <b>1</b>"]


def test_every_test_video_is_present_with_the_worst_first(folder):
    report = make_report()
    page = parse(folder / "report.html")
    f1 = {score.video_id: score.f1[50] for score in report.scores[0].per_video}
    shown = [attrs["data-name"] for tag, attrs in page.tags if tag == "article"]
    assert sorted(shown) == sorted(f1)
    assert [f1[name] for name in shown] == sorted(f1.values())
    drawn = [int(attrs["data-timeline"]) for _, attrs in page.tags if "data-timeline" in attrs]
    assert [page.data["timelines"][index]["id"] for index in drawn] == shown


def test_the_scores_of_every_convention_are_present(folder):
    cells = parse(folder / "report.html").text_in("td")
    for scores in make_report().scores:
        for value in (scores.frame_accuracy, scores.foreground_accuracy, scores.edit, *scores.f1.values()):
            assert f"{value:.1f}" in cells


def test_notices_settings_lineage_and_failures_are_present(folder):
    page = parse(folder / "report.html")
    everything = " ".join(text for _, text in page.texts)
    for wanted in (
        "The weights are random & prove <nothing>.",
        "broken<i>.mp4",
        "no frame could be decoded",
        "abc123",
        "width.frame",
        "i, u",
    ):
        assert wanted in everything


def test_a_report_without_extras_has_no_empty_section(tmp_path):
    write_report(tmp_path, make_report(epochs=(), settings={}, lineage={}, notices=(), failures=()))
    page = parse(tmp_path / "report.html")
    ids = {attrs.get("id") for _, attrs in page.tags}
    assert not ids & {"training", "settings", "lineage", "failures"}
    assert page.problems == []


def test_hundreds_of_long_videos_stay_small(tmp_path):
    rng = np.random.default_rng(0)
    videos, timelines = [], []
    for index in range(100):
        truth = np.repeat(rng.integers(4, size=100), 100)
        videos.append(LabelledPrediction(video_id=f"v{index}", truth=truth, predicted=truth))
        timelines.append(
            VideoTimeline(
                video_id=f"v{index}",
                times=np.arange(len(truth)) / 15,
                truth=truth,
                predicted=truth,
                confidence=rng.uniform(size=len(truth)),
            )
        )
    write_report(tmp_path, make_report(scores=[evaluate(videos, class_names=NAMES)], timelines=timelines))
    assert (tmp_path / "report.html").stat().st_size < 1_000_000


# --- JSON and Markdown --------------------------------------------------------------------------------------


def test_json_holds_the_scores_and_every_segment(folder):
    report = make_report()
    found = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert found["scores"] == json.loads(json.dumps([scores.to_dict() for scores in report.scores]))
    assert found["settings"] == report.settings
    assert found["epochs"][1]["train loss"] is None
    for video, timeline in zip(found["videos"], report.timelines, strict=True):
        for name in ("truth", "predicted"):
            assert (
                np.repeat(video[name]["labels"], video[name]["frames"]).tolist()
                == getattr(timeline, name).tolist()
            )
    first = found["videos"][0]
    assert first["seconds"] == {"first": 0.0, "end": 4.0, "step": 0.1}
    assert first["predicted"]["scores"][0] == round(100 * np.linspace(0.2, 0.9, 40)[:12].mean())


def test_json_of_uneven_frame_times_says_when_each_segment_starts():
    times = np.array([0.0, 0.1, 0.5, 0.6])
    uneven = timeline_columns(VideoTimeline(video_id="v", times=times, predicted=labels((1, 2), (2, 2))))
    assert (uneven["seconds"]["step"], uneven["predicted"]["starts"]) == (None, [0.0, 0.5])


def test_json_of_many_long_videos_is_small(tmp_path):
    rng = np.random.default_rng(0)
    videos, timelines = [], []
    for index in range(50):
        truth, predicted = (
            np.repeat(rng.integers(75, size=600), rng.integers(5, 30, size=600)) for _ in "ab"
        )
        count = min(len(truth), len(predicted))
        videos.append(
            LabelledPrediction(video_id=f"v{index}", truth=truth[:count], predicted=predicted[:count])
        )
        timelines.append(
            VideoTimeline(
                video_id=f"v{index}",
                times=np.arange(count) / 29.97,
                truth=truth[:count],
                predicted=predicted[:count],
                confidence=rng.uniform(size=count),
            )
        )
    scores = [evaluate(videos, class_names=[f"class {index}" for index in range(75)])]
    write_report(tmp_path, make_report(scores=scores, timelines=timelines))
    # A tenth of 500 videos: under 10 bytes for each of the 60,000 segments, in true and predicted rows.
    assert (tmp_path / "report.json").stat().st_size < 600_000
    assert (tmp_path / "report.html").stat().st_size < 1_200_000


def test_tables_hold_the_scores_the_counts_and_every_segment(folder):
    report = make_report()
    videos = pq.read_table(folder / "videos.parquet").to_pylist()
    assert [(row["video"], row["convention"]) for row in videos] == [
        (score.video_id, scores.convention) for scores in report.scores for score in scores.per_video
    ]
    assert videos[0]["frame_accuracy"] == report.scores[0].per_video[0].frame_accuracy
    assert videos[2]["foreground_accuracy"] == report.scores[0].per_video[2].foreground_accuracy
    segments = pq.read_table(folder / "segments.parquet").to_pylist()
    for timeline in report.timelines:
        for kind in ("truth", "predicted"):
            rows = [row for row in segments if (row["video"], row["kind"]) == (timeline.video_id, kind)]
            frames = [row["class"] for row in rows for _ in range(row["start_frame"], row["end_frame"])]
            assert frames == [NAMES[label] for label in getattr(timeline, kind)]
    confusion = pq.read_table(folder / "confusion.parquet").to_pylist()
    cells = {(row["truth"], row["predicted"]): row["frames"] for row in confusion}
    assert cells[EVIL_CLASS, "place | lift"] == 30
    assert sum(cells.values()) == report.scores[0].num_frames
    classes = pq.read_table(folder / "classes.parquet").to_pylist()
    assert classes[1]["iou"] == report.scores[0].per_class[1].iou


@pytest.mark.parametrize("convention", ["mstcn", "fact"])
def test_counts_come_back_from_the_table(folder, convention):
    (scores,) = (scores for scores in make_report().scores if scores.convention == convention)
    counts, digests = read_counts(folder, convention=convention)
    assert counts.video_ids == scores.counts.video_ids
    assert np.array_equal(counts.counts_VK, scores.counts.counts_VK)
    assert {name: float(value) for name, value in counts.figures().items()} == scores.figures
    assert len(set(digests.values())) == 3


def test_markdown_tables_keep_their_columns_whatever_the_names(folder):
    text = (folder / "report.md").read_text(encoding="utf-8")
    tables = [
        list(rows)
        for is_row, rows in itertools.groupby(text.splitlines(), lambda line: line.startswith("|"))
        if is_row
    ]
    assert len(tables) == 4
    for table in tables:
        assert len({len(re.findall(r"(?<!\\)\|", row)) for row in table}) == 1


def test_writing_twice_gives_the_same_bytes(folder, tmp_path):
    write_report(tmp_path, make_report())
    for name in ("report.html", "report.json", "report.md"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {"report.html", "report.json", "report.md", *TABLES}


# --- timelines and colours ----------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 9)), min_size=1, max_size=30), st.floats(1, 60))
def test_segments_of_the_page_give_back_every_frame(runs, fps):
    predicted = labels(*runs)
    times = np.arange(len(predicted)) / fps
    confidence = np.linspace(0, 1, len(predicted))
    drawn = timeline_data(
        VideoTimeline(video_id="v", times=times, predicted=predicted, confidence=confidence)
    )
    starts = np.cumsum(drawn["predicted"]["gaps"]) / 1000
    # The page rounds to milliseconds; the middle of each frame is far from its edges.
    index = np.searchsorted(starts, times + 0.5 / fps, side="right") - 1
    assert np.array(drawn["predicted"]["labels"])[index].tolist() == predicted.tolist()
    assert all(0 <= value <= 100 for value in drawn["confidence"] + drawn["predicted"]["scores"])
    assert drawn["confidence"] == sorted(drawn["confidence"])


def test_a_single_frame_has_a_length():
    timeline = VideoTimeline(video_id="v", times=np.array([2.0]), predicted=labels((1, 1)))
    assert timeline.end_seconds > 2.0


def test_the_color_of_a_class_does_not_depend_on_how_many_there_are():
    assert class_colors(75)[:10] == class_colors(10)


def test_colors_are_distinct_and_their_text_is_readable():
    colors = class_colors(100)
    assert len({color.fill for color in colors}) == 100

    def luminance(color: str) -> float:
        channels = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255
        linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    for color in colors:
        darker, lighter = sorted((luminance(color.fill), luminance(color.text)))
        assert (lighter + 0.05) / (darker + 0.05) >= 4.5


# --- bad input ----------------------------------------------------------------------------------------------


def test_a_scored_video_without_a_timeline_is_refused():
    with pytest.raises(DatasetError, match=r"3 videos and draws 2 .* bad"):
        make_report(timelines=make_report().timelines[:2])


def test_a_report_without_scores_is_refused():
    with pytest.raises(DatasetError, match="no scores"):
        make_report(scores=[])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"truth": labels((1, 3))}, r"4 frame times but truth of shape \(3,\)"),
        ({"confidence": np.array([0.1, 0.2, 3.0, 0.1])}, "confidence outside 0 to 1"),
        ({"confidence": np.array([0.1, 0.2, np.nan, 0.1])}, "confidence outside 0 to 1"),
        ({"times": np.array([0.0, 0.2, 0.1, 0.3])}, "must be at least one and increase"),
    ],
)
def test_timelines_that_do_not_fit_are_refused(changes, message):
    rows = {"times": np.arange(4) / FPS, "predicted": labels((1, 4))} | changes
    with pytest.raises(LabelError, match=message):
        VideoTimeline(video_id="v", **rows)


def test_a_label_without_a_name_is_refused(tmp_path):
    timeline = VideoTimeline(video_id="v", times=np.arange(3) / FPS, predicted=labels((9, 3)))
    with pytest.raises(LabelError, match="v: labels from 9 to 9, but there are 4 class names"):
        write_timeline_page(tmp_path / "t.html", title="v", class_names=NAMES, timelines=[timeline])
    assert list(tmp_path.iterdir()) == []


# --- in a browser -------------------------------------------------------------------------------------------

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium on the PATH (Debian: apt-get install chromium)")
def test_a_browser_draws_every_segment_and_runs_no_name(folder, tmp_path):
    for name, expected in (("report.html", 3 + 3 + 2 + 4 + 1 + 1), ("new.html", 2)):
        result = subprocess.run(
            [
                str(CHROMIUM),
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-quic",
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
                f"--user-data-dir={tmp_path / 'profile'}",
                "--dump-dom",
                (folder / name).as_uri(),
            ],
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        root = re.search(r"<html[^>]*>", result.stdout)
        assert root is not None
        assert 'data-ready="true"' in root[0]
        assert f'data-segments="{expected}"' in root[0]
        page = Page()
        page.feed(result.stdout)
        segments = [attrs for _, attrs in page.tags if (attrs.get("class") or "").startswith("segment")]
        assert len(segments) == expected
        assert not any(tag == "img" for tag, _ in page.tags)
        assert any(attrs["aria-label"].startswith(EVIL_CLASS) for attrs in segments)
        if name == "report.html":
            assert 'data-cells="16"' in result.stdout
            assert 'data-panels="3"' in result.stdout
