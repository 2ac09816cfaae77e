"""What the command line shows: data on standard output; progress, notes and errors on standard error."""

import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Literal

from flows.reports import StageReport
from pipeline.outcome import failures, summary

if TYPE_CHECKING:
    from flows.doctor import Check
    from pipeline.benchmark_dataset import Benchmark
    from pipeline.compare import Comparison
    from storage.catalogue import CatalogueRow
    from storage.places import Address
    from storage.segments import Segment
    from storage.status import StatusRow

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


def print_lines(lines: Iterable[str]) -> None:
    """Lines on standard output at once, for a program that waits for them."""
    for line in lines:
        print(line, flush=True)


def print_facts(report: StageReport, *, as_json: bool) -> None:
    """The results of a stage by name."""
    if as_json:
        print_json(dict(report.facts))
    else:
        _print_table(["result", "value"], list(report.facts.items()))


def print_texts(report: StageReport, *, as_json: bool) -> None:
    """The sentences of every class, and whether each was encoded now."""
    if as_json:
        print_json(dict(report.facts))
        return
    rows = [
        [text["label"], text["prompt"], "encoded" if text["encoded"] else "stored"]
        for text in report.facts["texts"]
    ]
    _print_table(["class", "prompt", "vector"], rows, title=f"Texts by {report.facts['model']}")


def print_outcomes(report: StageReport, *, as_json: bool) -> None:
    """What became of every video."""
    if as_json:
        print_json([asdict(outcome) for outcome in report.outcomes])
        return
    rows = [
        [outcome.video, outcome.status, outcome.seconds or None, outcome.reason]
        for outcome in report.outcomes
    ]
    _print_table(["video", "status", "seconds", "reason"], rows)


def print_predictions(report: StageReport, *, as_json: bool) -> None:
    """What I3D sees in each video; as lines of the log where JSON is asked for, since that is one value."""
    predictions = report.facts.get("predictions", [])
    rows = [
        [one["video"], one["profile"], seen["name"], f"{seen['probability']:.3f}", f"{seen['logit']:.2f}"]
        for one in predictions
        for seen in one["classes"]
    ]
    if any(one["random_weights"] for one in predictions):
        say("note: the weights are random numbers, and so are the classes")
    if rows and as_json:
        for row in rows:
            say("\t".join(row))
    elif rows:
        _print_table(["video", "profile", "class", "probability", "logit"], rows)


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
    rows = []
    for convention, figures in scores.items():
        rows.append([convention, *(_figure(figures.get(name)) for name in columns)])
        intervals = facts.get("intervals", {}).get(convention, {})
        if any(intervals.get(name) for name in columns):
            # A row for each end: both in one cell would not fit 80 columns.
            for end, of_end in enumerate(("95 % from", "95 % to")):
                ends = [intervals.get(name) for name in columns]
                rows.append([of_end, *(_figure(both[end]) if both else None for both in ends)])
    _print_table(["convention", *columns], rows, title="Scores on the test videos, in percent")
    _print_zero_shot(facts.get("zero_shot", {}))
    if "decision" in facts:
        role = "champion" if facts["champion"] == facts["version"] else "not champion"
        print(f"model   {facts['model']} version {facts['version']}, {role}: {facts['decision']}")
    for name in ("run", "report"):
        if name in facts:
            print(f"{name:6}  {facts[name]}")


def _print_zero_shot(zero_shot: Mapping[str, Mapping[str, Mapping[str, float | None]]]) -> None:
    if not zero_shot:
        return
    columns = list(next(iter(next(iter(zero_shot.values())).values())))
    rows = [
        [convention, side, *(_figure(figures[name]) for name in columns)]
        for convention, sides in zero_shot.items()
        for side, figures in sides.items()
    ]
    _print_table(["convention", "classes", *columns], rows, title="Seen and unseen classes, in percent")


def print_comparison(found: "Comparison") -> None:
    """Both runs, their difference, its interval and how likely chance would give as much."""
    rows = [
        [
            each.figure,
            _figure(each.first),
            _figure(each.second),
            f"{each.difference:+.1f}",
            None if each.interval is None else str(each.interval),
            f"{each.p_value:.4f}",
        ]
        for each in found.differences
    ]
    title = f"{len(found.videos)} videos, convention {found.convention}, in percent"
    _print_table(["figure", "first", "second", "difference", "95 % interval", "p"], rows, title=title)
    ways = "all" if found.exact else "a sample of"
    print(
        f"p: share of {ways} {found.permutations} swaps of whole videos that give at least such a difference"
    )
    for video in found.left_out:
        say(f"note: {video} was scored by one of the two only and is left out")


def _figure(value: float | None) -> str | None:
    return None if value is None else f"{value:.1f}"


def print_models(models: Sequence[Mapping[str, Any]]) -> None:
    """Every version of every model, its scores in percent; a table for each model, which fits 80 columns."""
    for name in dict.fromkeys(model["model"] for model in models):
        versions = [model for model in models if model["model"] == name]
        champion = next((model["version"] for model in versions if model["champion"]), None)
        columns = list(dict.fromkeys(score for model in versions for score in model["scores"]))
        rows = [
            [
                model["version"],
                model["run"][:8],
                *(_figure(model["scores"].get(score)) for score in columns),
            ]
            for model in versions
        ]
        leads = "no champion" if champion is None else f"champion: version {champion}"
        _print_table(["version", "run", *columns], rows, title=f"{name}, {leads}")


def print_status(rows: "Sequence[StatusRow]") -> None:
    """What there is of every video, and how many ended how."""
    columns = ["video", "stage", "of", "status", "reason"]
    _print_table(columns, [[row.video, row.stage, row.what, row.status, row.reason] for row in rows])
    counts = Counter(row.status for row in rows)
    say(", ".join(f"{count} {state}" for state, count in sorted(counts.items())) or "no video yet")


def print_benchmark(made: "Benchmark", *, score: str) -> None:
    """Scores in percent, a row per split, then mean and standard deviation."""
    names = list(made.over_splits)
    rows = [
        [split, *(f"{scores[name]:.1f}" if name in scores else None for name in names)]
        for split, scores in made.by_split.items()
    ]
    rows.append(["mean ± deviation over splits", *(str(made.over_splits[name]) for name in names)])
    if len({row.seed for row in made.rows}) > 1:
        rows.append(["mean ± deviation over seeds", *(str(made.over_seeds[name]) for name in names)])
    _print_table(["split", *names], rows, title=f"Scores on the {score} videos, in percent")


def segments_by_video(
    report: StageReport, *, store: "Address"
) -> list[tuple[dict[str, Any], "list[Segment]"]]:
    """Every segmented video of a report and its segments, read from the store."""
    from storage.segments import read_segments
    from storage.store import Store

    return [
        (video, read_segments(Store(store, read_only=True).prediction_path(video["prediction"]))[0])
        for video in report.facts["videos"]
    ]


def segments_for_json(report: StageReport, *, store: "Address") -> list[dict[str, Any]]:
    """The segments of every segmented video as a JSON-able value."""
    from pipeline.results import segment_rows

    return [
        {"video": video["outcome"]["video"], "path": video["path"], "segments": segment_rows(segments)}
        for video, segments in segments_by_video(report, store=store)
    ]


def print_segments(report: StageReport, *, store: "Address", form: SegmentForm) -> None:
    """When which action is done: time, action, confidence."""
    if form == "json":
        print_json(segments_for_json(report, store=store))
        return
    videos = segments_by_video(report, store=store)
    if form == "csv":
        from pipeline.results import segments_as_csv

        named = [(str(video["outcome"]["video"]), segments) for video, segments in videos]
        print(segments_as_csv(named), end="")
        return
    for video, segments in videos:
        rows = [
            [_clock(part.start_seconds), _clock(part.end_seconds), part.label, f"{part.score:.2f}"]
            for part in segments
        ]
        _print_table(["start", "end", "action", "confidence"], rows, title=video["outcome"]["video"])


def print_checks(checks: Sequence["Check"], *, as_json: bool) -> None:
    """What the doctor found."""
    rows = [asdict(check) for check in checks]
    if as_json:
        print_json(rows)
    else:
        _print_table(
            ["what", "status", "found"], [[row["what"], row["status"], row["found"]] for row in rows]
        )


def print_records(records: Sequence[Mapping[str, object]], *, as_json: bool) -> None:
    """Records of the same members: a column for each, or nothing where there is no record."""
    if as_json:
        print_json(list(records))
    elif records:
        _print_table(list(records[0]), [list(record.values()) for record in records])


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
