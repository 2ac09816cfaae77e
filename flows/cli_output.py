"""What the command line shows: data on standard output; progress, notes and errors on standard error."""

import csv
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from flows.reports import StageReport
from pipeline.outcome import failures, summary

if TYPE_CHECKING:
    from flows.doctor import Check
    from storage.catalogue import CatalogueRow

SegmentForm = Literal["table", "json", "csv"]


def exit_code(report: StageReport) -> int:
    """0 when every video went well, else 1."""
    return int(bool(failures(report.outcomes)))


def say(message: str) -> None:
    """A line for the person at the terminal, on standard error."""
    print(message, file=sys.stderr)


def say_outcomes(report: StageReport) -> None:
    """What became of the videos, failures in full, and the notes."""
    for note in report.notes:
        say(f"note: {note}")
    for outcome in failures(report.outcomes):
        say(f"failed: {outcome.video}: {outcome.reason}")
    if report.outcomes:
        say(f"{report.stage}: {summary(report.outcomes)}")


def print_json(value: object) -> None:
    """One JSON value on standard output."""
    print(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False, default=str))


def print_facts(report: StageReport, *, as_json: bool) -> None:
    """The results of a stage by name."""
    if as_json:
        print_json(dict(report.facts))
    else:
        _print_table(["result", "value"], list(report.facts.items()))


def print_outcomes(report: StageReport, *, as_json: bool) -> None:
    """What became of every video."""
    rows = [asdict(outcome) for outcome in report.outcomes]
    if as_json:
        print_json(rows)
    else:
        _print_table(["video", "status", "reason"], [list(row.values()) for row in rows])


def print_catalogue(rows: Sequence["CatalogueRow"], *, as_json: bool) -> None:
    """What is known of every file."""
    if as_json:
        print_json([asdict(row) for row in rows])
        return
    columns = ["id", "status", "codec", "size", "fps", "frames", "seconds", "decoder", "error"]
    cells = [
        [
            row.id,
            row.status,
            row.codec,
            f"{row.width}x{row.height}" if row.width else None,
            row.fps,
            row.num_frames,
            row.duration_seconds,
            row.decoder,
            row.error,
        ]
        for row in rows
    ]
    _print_table(columns, cells)


def print_evaluation(facts: Mapping[str, Any]) -> None:
    """Scores in percent, a row per convention, then where the report lies."""
    scores: Mapping[str, Mapping[str, float]] = facts["scores"]
    columns = list(dict.fromkeys(name for figures in scores.values() for name in figures))
    rows = [
        [convention, *(f"{figures[name]:.1f}" if name in figures else None for name in columns)]
        for convention, figures in scores.items()
    ]
    _print_table(["convention", *columns], rows, title="Scores on the test videos, in percent")
    if "decision" in facts:
        role = "champion" if facts["champion"] == facts["version"] else "not champion"
        print(f"model   {facts['model']} version {facts['version']}, {role}: {facts['decision']}")
    print(f"run     {facts['run']}")
    print(f"report  {facts['report']}")


def segments_by_video(report: StageReport, *, store: Path) -> list[dict[str, Any]]:
    """The segments of every segmented video, read from the store."""
    from storage.segments import read_segments
    from storage.store import Store

    videos = []
    for video in report.facts["videos"]:
        segments, _ = read_segments(Store(store).prediction_path(video["prediction"]))
        rows = [
            {name: value for name, value in segment.to_row().items() if name != "video"}
            for segment in segments
        ]
        videos.append({"video": video["outcome"]["video"], "path": video["path"], "segments": rows})
    return videos


def print_segments(report: StageReport, *, store: Path, form: SegmentForm) -> None:
    """When which action is done: time, action, confidence."""
    videos = segments_by_video(report, store=store)
    if form == "json":
        print_json(videos)
    elif form == "csv":
        columns = ["video", "start_frame", "end_frame", "start_seconds", "end_seconds", "class", "score"]
        writer = csv.DictWriter(sys.stdout, columns, lineterminator="\n")
        writer.writeheader()
        for video in videos:
            writer.writerows({"video": video["video"], **row} for row in video["segments"])
    else:
        for video in videos:
            rows = [
                [
                    _clock(row["start_seconds"]),
                    _clock(row["end_seconds"]),
                    row["class"],
                    f"{row['score']:.2f}",
                ]
                for row in video["segments"]
            ]
            _print_table(["start", "end", "action", "confidence"], rows, title=video["video"])


def print_checks(checks: Sequence["Check"], *, as_json: bool) -> None:
    """What the doctor found."""
    rows = [asdict(check) for check in checks]
    if as_json:
        print_json(rows)
    else:
        _print_table(
            ["what", "status", "found"], [[row["what"], row["status"], row["found"]] for row in rows]
        )


@contextmanager
def progress_bars() -> Iterator[None]:
    """Draw a bar on standard error for every piece of work that reports progress while the block runs."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from pipeline import progress

    console = Console(stderr=True)
    bars = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[unit]} {task.fields[note]}", markup=False),
        TimeRemainingColumn(compact=True),
        console=console,
        # A log file gets a line per finished piece of work instead of half-drawn bars.
        disable=not console.is_terminal,
    )
    tasks: dict[str, Any] = {}

    def show(now: progress.Progress) -> None:
        if not console.is_terminal:
            if now.done >= now.total:
                say(f"{now.work}: {now.total} {now.unit} {now.note}".rstrip())
            return
        if now.work not in tasks:
            tasks[now.work] = bars.add_task(now.work, total=now.total, unit=now.unit, note="")
        bars.update(tasks[now.work], completed=now.done, total=now.total, note=now.note)

    with bars, progress.listening(show):
        yield


def _print_table(columns: Sequence[str], rows: Sequence[Sequence[object]], *, title: str = "") -> None:
    """A table on standard output; cell texts are shown as they are, never read as markup."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title) if title else None, title_justify="left")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(_shown(cell)) for cell in row))
    Console().print(table)


def _shown(cell: object) -> str:
    if cell is None:
        return ""
    return f"{cell:.2f}" if isinstance(cell, float) else str(cell)


def _clock(seconds: float) -> str:
    """Time as people read it: ``1:02:03.45``.

    >>> _clock(3723.456), _clock(2.5)
    ('1:02:03.46', '0:02.50')
    """
    minutes, rest = divmod(round(seconds, 2), 60)
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours}:{minutes:02}:{rest:05.2f}" if hours else f"{minutes}:{rest:05.2f}"
