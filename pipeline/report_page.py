"""The HTML pages of a report: what the templates in ``report_assets`` are given."""

from __future__ import annotations

import base64
import hashlib
from importlib import resources
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from pipeline.report_colors import class_colors
from pipeline.report_player import media_sources, player_data
from pipeline.report_summary import percent, worst_first
from pipeline.report_timelines import VideoTimeline, segments, timeline_data, used_classes

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from pipeline.bootstrap import Interval
    from pipeline.metrics import Scores
    from pipeline.report import Report

_COMMON_MISTAKES: Final = 12


def report_page(report: Report) -> str:
    """The whole page of one run, as text."""
    first = report.scores[0]
    score_of = {score.video_id: score for score in first.per_video}
    videos = [
        (index, timeline, score_of[timeline.video_id]) for index, timeline in enumerate(report.timelines)
    ]
    return _render(
        "report.html",
        class_names=report.class_names,
        data={
            "timelines": [timeline_data(timeline) for timeline in report.timelines],
            "player": player_data(report.timelines, beside=report.videos_beside),
            "confusion": _confusion_data(first),
            "panels": curve_panels(report.epochs),
        },
        background={index for scores in report.scores for index in scores.background},
        used=used_classes(report.timelines),
        title=report.title,
        notices=report.notices,
        report=report,
        first=first,
        headline=_headline(first),
        mistakes=_common_mistakes(first),
        unseen={index for scores in report.zero_shot for index in scores.unseen_classes},
        media=media_sources(report.videos_beside),
        videos=sorted(videos, key=lambda video: worst_first(video[2])),
        settings=grouped(report.settings),
        lineage=grouped(report.lineage),
    )


def timeline_page(
    timelines: Sequence[VideoTimeline],
    *,
    title: str,
    class_names: Sequence[str],
    background: Collection[int],
    notices: Sequence[str],
) -> str:
    """A page of timelines and tables of predicted segments, as text."""
    tables = [
        segments(timeline, timeline.predicted, class_names, confidence=timeline.confidence)
        for timeline in timelines
    ]
    return _render(
        "timelines.html",
        class_names=class_names,
        data={"timelines": [timeline_data(timeline) for timeline in timelines], "player": None},
        background=background,
        used=used_classes(timelines),
        title=title,
        notices=notices,
        videos=list(zip(range(len(timelines)), timelines, tables, strict=True)),
    )


def finite_or_none(value: float | None) -> float | None:
    """JSON has no word for NaN and Infinity: a gap in a curve is None."""
    return value if value is not None and np.isfinite(value) else None


def _render(
    template: str,
    *,
    class_names: Sequence[str],
    data: dict[str, Any],
    media: str = "",
    background: Collection[int],
    used: Sequence[int],
    **context: Any,  # noqa: ANN401  (what the template names)
) -> str:
    environment = Environment(
        loader=PackageLoader("pipeline", "report_assets"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # Jinja's tojson writes <, >, & and ' as \u escapes, so no name can end the script element it stands in.
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}
    environment.filters |= {"percent": percent, "clock": clock}
    names = ("theme", "timeline", *(("player",) if media else ()), "page")
    scripts = {name: _asset(f"{name}.js") for name in names}
    return environment.get_template(template).render(
        style=_asset("style.css"),
        scripts=scripts,
        script_hashes=[_content_hash(script) for script in scripts.values()],
        media=media,
        class_names=class_names,
        colors=class_colors(len(class_names)),
        background=set(background),
        used=used,
        data={"classes": list(class_names)} | data,
        **context,
    )


def _asset(name: str) -> Markup:
    text = (resources.files("pipeline") / "report_assets" / name).read_text(encoding="utf-8")
    return Markup(text)  # noqa: S704  (a file of this package, never user input)


def _content_hash(script: str) -> str:
    """The script's name in a content security policy, which then lets no other script run."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def clock(seconds: float) -> str:
    """Minutes, seconds and hundredths.

    >>> clock(83.456)
    '1:23.46'
    """
    hundredths = round(seconds * 100)
    return f"{hundredths // 6000}:{hundredths // 100 % 60:02d}.{hundredths % 100:02d}"


def _headline(scores: Scores) -> list[tuple[str, float, str, Interval | None]]:
    """Name, value, meaning and interval of the figures shown large."""
    meanings = {
        "frame accuracy": ("Frame accuracy", "frames whose class is right"),
        "foreground accuracy": ("Without background", "accuracy over action frames"),
        "edit": ("Edit", "agreement in the order of segments"),
        **{
            f"f1@{percent}": (f"F1@{percent}", f"segments found with {percent} % overlap")
            for percent in scores.f1
        },
    }
    figures = scores.figures
    return [
        (title, figures[name], meaning, scores.intervals[name])
        for name, (title, meaning) in meanings.items()
        if name in figures
    ]


def _common_mistakes(scores: Scores) -> list[tuple[int, int, int, float]]:
    """The largest cells off the diagonal: truth, prediction, frames, share of the true class in percent."""
    wrong = scores.confusion.copy()
    np.fill_diagonal(wrong, 0)
    largest = np.argsort(-wrong, axis=None, kind="stable")[:_COMMON_MISTAKES]
    truth, predicted = np.unravel_index(largest, wrong.shape)
    support = scores.confusion.sum(axis=1)
    return [
        (t, p, int(wrong[t, p]), 100.0 * float(wrong[t, p] / support[t]))
        for t, p in zip(truth.tolist(), predicted.tolist(), strict=True)
        if wrong[t, p]
    ]


def _confusion_data(scores: Scores) -> dict[str, Any]:
    """Counts of the classes that occur in truth or prediction."""
    occurring = np.flatnonzero(scores.confusion.sum(axis=0) + scores.confusion.sum(axis=1))
    return {
        "classes": occurring.tolist(),
        "rows": scores.confusion[np.ix_(occurring, occurring)].tolist(),
    }


def curve_panels(epochs: Sequence[Mapping[str, float]]) -> list[dict[str, Any]]:
    """Series by epoch in panels of like scale: losses, scores, and every other number by itself."""
    names = dict.fromkeys(name for row in epochs for name in row if name != "epoch")
    x_values = [row.get("epoch", index) for index, row in enumerate(epochs, start=1)]
    panels: dict[str, dict[str, Any]] = {}
    for name in names:
        title = _panel_title(name)
        panel = panels.setdefault(title, {"title": title, "x": x_values, "series": []})
        panel["series"].append({"name": name, "values": [finite_or_none(row.get(name)) for row in epochs]})
    return list(panels.values())


def _panel_title(name: str) -> str:
    lowered = name.lower()
    if "loss" in lowered:
        return "Loss"
    if any(word in lowered for word in ("acc", "edit", "f1")):
        return "Scores (percent)"
    return name.replace("_", " ").capitalize()


def grouped(values: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Nested values as (group, rows of dotted key and text); what is not nested comes first, unnamed."""
    plain = [(key, _value_text(value)) for key, value in values.items() if not isinstance(value, dict)]
    nested = [(key, _flattened(value)) for key, value in values.items() if isinstance(value, dict)]
    return ([("", plain)] if plain else []) + nested


def _flattened(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for key, value in values.items():
        if isinstance(value, dict):
            rows += _flattened(value, f"{prefix}{key}.")
        else:
            rows.append((f"{prefix}{key}", _value_text(value)))
    return rows


def _value_text(value: Any) -> str:  # noqa: ANN401  (any JSON value)
    if isinstance(value, list | tuple):
        return ", ".join(map(_value_text, value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None or value == "" else str(value)
