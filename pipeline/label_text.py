"""Label files of plain text: one class a frame, recognition files, ranges, CSV and WebVTT."""

import csv
import html
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from pipeline.errors import LabelError
from pipeline.label_rows import LabelRow, ReadingRules, Unit, checked_row, rules_said
from pipeline.labels import nearest_name, read_text
from pipeline.sniff import has_video_suffix

RECOGNITION_HEAD = "### Frame level recognition: ###"
"""First line of a recognition file of MS-TCN's scripts."""

_VTT_TIME = re.compile(r"(?:(\d+):)?(\d{1,2}):(\d{1,2}(?:[.,]\d+)?)")
_VTT_TAG = re.compile(r"<[^>]*>")
_START, _END = ("start_frame", "start_seconds", "start"), ("end_frame", "end_seconds", "end")


def read_frames(path: Path, rules: ReadingRules) -> list[LabelRow]:
    """One class name per frame, a line each: the label files of MS-TCN."""
    lines = [line.strip() for line in read_text(path, what="label file").split("\n")]
    while lines and not lines[-1]:
        lines.pop()
    return _runs(path, lines, rules, each="line")


def read_recognition(path: Path, rules: ReadingRules) -> list[LabelRow]:
    """A recognition file as segments; see `recognition_labels`."""
    labels = recognition_labels(path, classes=rules.classes, blank_as=rules.blank_as)
    # The published scripts write no ending, and a video id may hold dots.
    return _runs(path, labels, rules, each="label", video=path.name.removesuffix(".txt"))


def recognition_labels(path: Path, *, classes: Sequence[str] = (), blank_as: str = "") -> list[str]:
    """One class name per frame of a recognition file: a head line, then all labels separated by blanks.

    Class names with blanks are joined again by the longest match against the mapping.

    Raises:
        LabelError: The head is missing, a word fits no class, or the words can be joined in two ways.
    """
    head, _, body = read_text(path, what="recognition file").partition("\n")
    if head.strip() != RECOGNITION_HEAD:
        raise LabelError(
            f"{path}, line 1: {head[:60]!r} is not {RECOGNITION_HEAD!r}. Is it a recognition file?"
        )
    words = body.split()
    return join_words(words, classes, blank_as=blank_as, source=path) if classes else words


def join_words(words: Sequence[str], classes: Sequence[str], *, blank_as: str, source: Path) -> list[str]:
    """Class names from words.

    >>> join_words("pour milk stir".split(), ["pour milk", "stir"], blank_as="", source=Path("x"))
    ['pour milk', 'stir']

    Raises:
        LabelError: A word fits no class, or the words can be joined in two ways.
    """
    known = _spellings(classes, blank_as=blank_as, source=source)
    longest = max(map(len, known))
    # Ways to read the words from each place to the end, 2 standing for more; the last place has one: nothing.
    ways = np.zeros(len(words) + 1, dtype=np.int64)
    ways[-1] = 1
    for place in reversed(range(len(words))):
        sizes = range(1, min(longest, len(words) - place) + 1)
        found = sum(int(ways[place + size]) for size in sizes if tuple(words[place : place + size]) in known)
        ways[place] = min(found, 2)
    if ways[0] > 1:
        raise LabelError(
            f"{source}: its words can be joined to class names in more than one way. "
            "Write the file with --blank-as _, so that names hold no blank."
        )
    if not ways[0]:
        place = _first_unread(words, known, longest=longest)
        near = nearest_name(words[place], classes)
        raise LabelError(
            f"{source}, label {place + 1}: {words[place]!r} begins no class of the mapping{near}. "
            "Give the mapping of this file, or --blank-as as it was written with."
        )
    names: list[str] = []
    place = 0
    while place < len(words):
        # The longest name that still lets the rest be read.
        size = next(
            size for size in range(longest, 0, -1) if _fits(words, place, size, known) and ways[place + size]
        )
        names.append(known[tuple(words[place : place + size])])
        place += size
    return names


def read_ranges(path: Path, rules: ReadingRules) -> list[LabelRow]:
    """Lines ``start end label`` in frames; the rules say how they are counted."""
    rules = rules_said(rules, source=path)
    rows = []
    for number, line in enumerate(read_text(path, what="label file").split("\n"), start=1):
        where = f"{path}, line {number}"
        if not line.strip():
            continue
        match = re.fullmatch(r"\s*(-?\d{1,15})[\s,;-]+(\d{1,15})[\s,;]+(.*\S)\s*", line)
        if match is None:
            raise LabelError(
                f"{where}: {line[:60]!r} is not `start end label`. Correct the line, e.g. `0 29 stir`."
            )
        rows.append(
            checked_row(
                video=path.stem,
                start=int(match[1]),
                end=int(match[2]),
                unit="frames",
                label=match[3],
                where=where,
                rules=rules,
            )
        )
    return rows


def read_csv(path: Path, rules: ReadingRules) -> list[LabelRow]:
    """A table with a head: columns for start, end, class and, where it holds several, the video."""
    text = read_text(path, what="label file")
    try:
        dialect: type[csv.Dialect] | csv.Dialect = (
            csv.excel_tab if "\t" in text.partition("\n")[0] else csv.excel()
        )
        reader = csv.DictReader(io.StringIO(text, newline=""), dialect=dialect, strict=True)
        return [
            row_of_fields(fields, video=path.stem, where=f"{path}, line {reader.line_num}", rules=rules)
            for fields in reader
        ]
    except csv.Error as error:
        raise LabelError(
            f"{path}, line {reader.reader.line_num}: no table ({error}). Correct the quotes."
        ) from error


def row_of_fields(fields: Mapping[str, object], *, video: str, where: str, rules: ReadingRules) -> LabelRow:
    """A row from named values: ``start_frame``/``end_frame``, ``start_seconds``/``end_seconds`` or ``start``/``end``.

    Frames win over seconds where a row has both: they are exact.

    Raises:
        LabelError: A value is missing or no number, or the unit is not known.
    """
    label = next((fields[name] for name in ("class", "label") if fields.get(name) is not None), None)
    pair = next(
        (
            pair
            for pair in zip(_START, _END, strict=True)
            if all(fields.get(one) not in {None, ""} for one in pair)
        ),
        None,
    )
    if label is None or pair is None:
        raise LabelError(
            f"{where}: has no start, end and class. Name them start_frame, end_frame (exclusive) or start_seconds, "
            "end_seconds, and class."
        )
    unit: Unit | None = (
        "frames" if pair[0] == "start_frame" else "seconds" if pair[0] == "start_seconds" else rules.unit
    )
    if unit is None:
        raise LabelError(f"{where}: start and end are of no known unit. Say --unit seconds or --unit frames.")
    # A unit in the name of the column is our own way of counting; bare frames are counted as the user says.
    counted = rules_said(rules, source=Path(where)) if pair[0] == "start" and unit == "frames" else None
    start, end = (_number(fields[name], name, where) for name in pair)
    named = str(fields.get("video") or video)
    return checked_row(
        video=Path(named).stem if has_video_suffix(Path(named)) else named,
        start=start,
        end=end,
        unit=unit,
        label=str(label),
        where=where,
        rules=counted,
    )


def read_vtt(path: Path, rules: ReadingRules) -> list[LabelRow]:
    """WebVTT: a cue is a segment, its text the label; tags, notes and styles are left out."""
    del rules
    lines = read_text(path, what="label file").split("\n")
    if not re.match(r"WEBVTT(?:[ \t]|$)", lines[0]):
        raise LabelError(f"{path}, line 1: {lines[0][:60]!r} is not 'WEBVTT'. Is it a WebVTT file?")
    rows = []
    for number, block in _blocks(lines):
        at = next((index for index, line in enumerate(block) if "-->" in line), None)
        if at is None:
            continue
        where = f"{path}, line {number + at}"
        start, _, rest = block[at].partition("-->")
        words = rest.split()
        label = html.unescape(_VTT_TAG.sub("", " ".join(block[at + 1 :])))
        rows.append(
            checked_row(
                video=path.stem,
                start=_clock(start.strip(), where),
                end=_clock(words[0] if words else "", where),
                unit="seconds",
                label=label,
                where=where,
            )
        )
    return rows


def _runs(
    path: Path, names: Sequence[str], rules: ReadingRules, *, each: str, video: str | None = None
) -> list[LabelRow]:
    """Rows of equal names, a frame each."""
    rows: list[LabelRow] = []
    start = 0
    for end in range(1, len(names) + 1):
        if end == len(names) or names[end] != names[start]:
            where = f"{path}, {each} {start + 1}"
            name = names[start]
            if rules.classes and name and name not in rules.classes:
                near = nearest_name(name, rules.classes)
                raise LabelError(
                    f"{where}: class {name!r} is not in the mapping{near}. Correct it, or the mapping."
                )
            row = checked_row(
                video=video or path.stem, start=start, end=end, unit="frames", label=name, where=where
            )
            rows.append(row)
            start = end
    return rows


def _spellings(classes: Sequence[str], *, blank_as: str, source: Path) -> dict[tuple[str, ...], str]:
    """Class name by the words it is written with."""
    known: dict[tuple[str, ...], str] = {}
    for name in classes:
        words = (blank_as.join(name.split()),) if blank_as else tuple(name.split())
        if known.setdefault(words, name) != name:
            raise LabelError(
                f"{source}: classes {known[words]!r} and {name!r} are written alike in such a file. Rename one of them."
            )
    return known


def _first_unread(words: Sequence[str], known: Mapping[tuple[str, ...], str], *, longest: int) -> int:
    """The word at which no way of joining can go on."""
    reached = {0}
    for place in range(len(words)):
        if place in reached:
            reached |= {place + size for size in range(1, longest + 1) if _fits(words, place, size, known)}
    return min(max(reached), len(words) - 1)


def _fits(words: Sequence[str], place: int, size: int, known: Mapping[tuple[str, ...], str]) -> bool:
    return place + size <= len(words) and tuple(words[place : place + size]) in known


def _number(value: object, name: str, where: str) -> float:
    try:
        return float(str(value))
    except ValueError:
        raise LabelError(f"{where}: {name} is {str(value)[:40]!r}, no number. Correct it.") from None


def _blocks(lines: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
    """Runs of lines that are not blank, with the number of their first line."""
    block: list[str] = []
    for number, line in enumerate((*lines, ""), start=1):
        if line.strip():
            block.append(line)
        elif block:
            if block[0].split()[0] not in {"NOTE", "STYLE", "REGION"}:
                yield number - len(block), block
            block = []


def _clock(text: str, where: str) -> float:
    match = _VTT_TIME.fullmatch(text)
    if match is None:
        raise LabelError(f"{where}: {text[:40]!r} is no time. Write 00:00:12.345.")
    return int(match[1] or 0) * 3600 + int(match[2]) * 60 + float(match[3].replace(",", "."))
