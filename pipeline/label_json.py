"""Label files in JSON: lists of segments, projects of the VIA annotator, exports of Label Studio."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote

from pipeline.errors import LabelError
from pipeline.label_rows import LabelRow, ReadingRules, checked_row
from pipeline.label_text import row_of_fields
from pipeline.labels import read_text


def read_json(path: Path, rules: ReadingRules) -> list[LabelRow]:
    """A list of segments, or a list of videos that each have ``segments``; named values as in a CSV table."""
    value = _load(path)
    if isinstance(value, dict) and "segments" in value:
        value = [value]
    rows = []
    for place, fields in _segments(_list(value, f"{path}")):
        where = f"{path}, {place}"
        if not isinstance(fields, dict):
            raise LabelError(f"{where}: is no segment. Write objects with start, end and class.")
        rows.append(row_of_fields(fields, video=path.stem, where=where, rules=rules))
    return rows


def read_via(path: Path, rules: ReadingRules) -> list[LabelRow]:
    """A project of VIA 3: its temporal segments and the value of one attribute."""
    project = _load(path)
    rows = []
    try:
        attribute = _via_attribute(project, path, wanted=rules.tier)
        options = project["attribute"][attribute].get("options") or {}
        for name, item in project["metadata"].items():
            # Spatial marks have coordinates; only stretches of time have two times and none.
            if len(item["z"]) != 2 or item["xy"] or attribute not in item["av"]:
                continue
            value = str(item["av"][attribute])
            (file_id,) = project["view"][item["vid"]]["fid_list"]
            rows.append(
                checked_row(
                    video=_stem(project["file"][file_id]["fname"]),
                    start=float(item["z"][0]),
                    end=float(item["z"][1]),
                    unit="seconds",
                    label=str(options.get(value, value)),
                    where=f"{path}, metadata {name}",
                )
            )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        if isinstance(error, LabelError):
            raise
        raise LabelError(
            f"{path}: is no project of VIA 3 ({type(error).__name__}: {error}). Save it again from the annotator."
        ) from error
    return rows


def read_label_studio(path: Path, rules: ReadingRules) -> list[LabelRow]:
    """An export of Label Studio: ranges of frames (timeline labels) or of seconds (labels on a track).

    Frames of timeline labels count from 1 and the last one is included, unless the rules say otherwise.
    """
    usual = replace(rules, base=1 if rules.base is None else rules.base, end=rules.end or "inclusive")
    rows: list[LabelRow] = []
    for number, task in enumerate(_list(_load(path), f"{path}"), start=1):
        where = f"{path}, task {number}"
        try:
            rows += _task_rows(task, usual, where)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError, StopIteration) as error:
            if isinstance(error, LabelError):
                raise
            raise LabelError(
                f"{where}: is no task of Label Studio ({type(error).__name__}: {error}). Export it again as JSON."
            ) from error
    return rows


def _task_rows(task: Mapping[str, Any], rules: ReadingRules, where: str) -> Iterator[LabelRow]:
    given = [one for one in task["annotations"] if not one.get("was_cancelled")]
    if len(given) > 1:
        raise LabelError(f"{where}: has {len(given)} annotations. Keep one, and cancel or delete the others.")
    media = task["data"]
    link = media.get("video") or next(value for value in media.values() if isinstance(value, str))
    for annotation in given:
        for index, item in enumerate(annotation["result"], start=1):
            value = item["value"]
            label = value.get("timelinelabels") or value.get("labels")
            if not label or (rules.tier and item.get("from_name") != rules.tier):
                continue
            (name,) = label
            frames = "ranges" in value
            for one in value["ranges"] if frames else [value]:
                yield checked_row(
                    video=_stem(link),
                    start=float(one["start"]),
                    end=float(one["end"]),
                    unit="frames" if frames else "seconds",
                    label=name,
                    where=f"{where}, result {index}",
                    rules=rules if frames else None,
                )


def _segments(items: list[Any]) -> Iterator[tuple[str, Any]]:
    """Segments with their place, those inside videos under the video's id."""
    for number, item in enumerate(items, start=1):
        if not isinstance(item, dict) or "segments" not in item:
            yield f"item {number}", item
            continue
        for inner, segment in enumerate(_list(item["segments"], f"item {number}"), start=1):
            named = {"video": item["video"]} if "video" in item else {}
            yield (
                f"item {number}, segment {inner}",
                {**named, **segment} if isinstance(segment, dict) else segment,
            )


def _via_attribute(project: Mapping[str, Any], path: Path, *, wanted: str) -> str:
    """Id of the attribute that holds the labels."""
    names = {key: str(value["aname"]) for key, value in project["attribute"].items()}
    fitting = [key for key, name in names.items() if not wanted or name == wanted]
    if len(fitting) != 1:
        raise LabelError(
            f"{path}: has attributes {', '.join(sorted(names.values())) or 'none'}; one is needed. "
            "Name it with --tier."
        )
    return str(fitting[0])


def _stem(link: str) -> str:
    return PurePosixPath(unquote(link).replace("\\", "/").partition("?")[0]).stem


def _load(path: Path) -> Any:  # noqa: ANN401  (any JSON value)
    try:
        return json.loads(read_text(path, what="label file"))
    except (ValueError, RecursionError) as error:
        raise LabelError(f"{path}: is no JSON ({error}). Correct it.") from error


def _list(value: object, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise LabelError(f"{where}: is no list. Write a list of segments, or of videos with segments.")
    return value
