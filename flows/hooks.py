"""What a flow leaves behind for people who look at the run: artifacts, progress, a note when it failed."""

import logging
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from prefect.artifacts import (
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.client.schemas.objects import Flow as FlowRecord
from prefect.client.schemas.objects import FlowRun, State
from prefect.context import FlowRunContext

from flows.reports import RUN_LOG, StageReport
from pipeline import progress
from pipeline.progress import Progress
from storage.places import place_of

log = logging.getLogger(RUN_LOG)

PROGRESS_EVERY_SECONDS = 10.0
"""How often a progress artifact is brought up to date; each update is a request to the server."""

MAX_ROWS = 1000
"""Rows of a table artifact; failed videos come first, and the store holds all."""


def publish(report: StageReport) -> None:
    """Make artifacts of what a stage reports: a table of its videos and its results.

    Outside a flow run nothing is made.
    """
    if FlowRunContext.get() is None:
        return
    order = {"failed": 0, "done": 1, "skipped": 2}
    listed = sorted(report.outcomes, key=lambda outcome: order[outcome.status])
    if listed:
        rows = [
            {
                "video": outcome.video,
                "status": outcome.status,
                "seconds": round(outcome.seconds, 2) if outcome.seconds else "",
                "reason": outcome.reason,
            }
            for outcome in listed[:MAX_ROWS]
        ]
        left_out = f" ({len(listed) - MAX_ROWS} more in the store)" if len(listed) > MAX_ROWS else ""
        create_table_artifact(
            rows, key=f"{report.stage}-videos", description=f"What became of each video{left_out}."
        )
    if report.facts or report.notes:
        create_markdown_artifact(_markdown(report), key=f"{report.stage}-results")
    if report.stage == "evaluate":
        # The page itself stays in the store: it is large, and a server shows no scripts.
        summary = place_of(report.facts["report"]).with_suffix(".md")
        create_markdown_artifact(summary.read_text(encoding="utf-8"), key="evaluate-report")


def _markdown(report: StageReport) -> str:
    lines = [f"# {report.stage}", "", "| result | value |", "|---|---|"]
    lines += [f"| {_cell(key)} | {_cell(value)} |" for key, value in _flat(report.facts)]
    lines += ["", *(f"- {_cell(note)}" for note in report.notes)]
    return "\n".join(lines)


def _flat(facts: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in facts.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key} ")
        elif not isinstance(value, list):
            yield f"{prefix}{key}", f"{value:.2f}" if isinstance(value, float) else value


def _cell(value: object) -> str:
    # Names of videos and classes come from outside: nothing of theirs may end a cell or begin a tag.
    text = " ".join(str(value).split())
    return re.sub(r"([\\|`*_\[\]])", r"\\\1", text.replace("&", "&amp;").replace("<", "&lt;"))


class _ProgressArtifacts:
    """A progress artifact per piece of work that lasts, brought up to date seldom: each is a request to the server.

    Work that ends soon makes none, so that thousands of short videos do not drown the server.
    """

    def __init__(self) -> None:
        self._since: dict[str, float] = {}
        self._artifacts: dict[str, UUID] = {}

    def __call__(self, state: Progress) -> None:
        now = time.monotonic()
        since = self._since.setdefault(state.work, now)
        ended = state.done >= state.total
        if ended:
            del self._since[state.work]
        known = self._artifacts.pop(state.work, None) if ended else self._artifacts.get(state.work)
        if now - since < PROGRESS_EVERY_SECONDS and not (ended and known):
            return
        percent = 100.0 * state.done / max(state.total, 1)
        if known is None:
            made = create_progress_artifact(percent, description=state.work)
            known = made if isinstance(made, UUID) else UUID(str(made))
        else:
            update_progress_artifact(known, percent, description=f"{state.work} {state.note}".strip())
        if not ended:
            self._artifacts[state.work] = known
            self._since[state.work] = now


@contextmanager
def progress_artifacts() -> Iterator[None]:
    """Show the progress of work that lasts as artifacts of the flow run while the block runs."""
    if FlowRunContext.get() is None:
        yield
        return
    with progress.listening(_ProgressArtifacts()):
        yield


def note_failure(flow: FlowRecord, run: FlowRun, state: State[Any]) -> None:
    """Say in the log which run ended how, and what to do; for ``on_failure`` and ``on_crashed``."""
    log.error(
        "flow run %s of %s ended %s: %s. What it stored is kept; mend the cause and run it again.",
        run.name,
        flow.name,
        state.name,
        (state.message or "no reason was given").rstrip("."),
    )
