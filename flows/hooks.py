"""What a flow leaves behind for people who look at the run: artifacts, progress, a note when it failed."""

import logging
import re
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import Context, copy_context
from queue import SimpleQueue
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

LAST_WORDS_SECONDS = 10.0
"""How long the end of a flow waits for progress that the server has not taken yet."""

MAX_ROWS = 1000
"""Rows of a table artifact; failed videos come first, and those are in the run's log, too."""


def publish(report: StageReport) -> None:
    """Make artifacts of what a stage reports: a table of its videos and its results.

    Outside a flow run nothing is made. What cannot be made is said in the log: the work is done without it.
    """
    if FlowRunContext.get() is None:
        return
    try:
        _publish(report)
    except Exception as error:  # noqa: BLE001  (a server that is gone must not undo the work)
        log.warning("the artifacts of %s could not be made: %s", report.stage, error)


def _publish(report: StageReport) -> None:
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
        left_out = (
            f" (the first {MAX_ROWS} of {len(listed)}, failed ones first)" if len(listed) > MAX_ROWS else ""
        )
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

    Work that ends soon makes none, so that thousands of short videos do not drown the server. Requests are made by
    a thread of their own: a server that is slow or gone holds up no work and breaks none.
    """

    def __init__(self) -> None:
        self._since: dict[str, float] = {}
        self._shown: set[str] = set()
        self._artifacts: dict[str, UUID] = {}
        self._failed = False
        self._waiting: SimpleQueue[tuple[Context, Progress] | None] = SimpleQueue()
        self._sender = threading.Thread(target=self._send_all, daemon=True, name="progress")
        self._sender.start()

    def __call__(self, state: Progress) -> None:
        now = time.monotonic()
        since = self._since.setdefault(state.work, now)
        ended = state.done >= state.total
        if ended:
            del self._since[state.work]
        if now - since < PROGRESS_EVERY_SECONDS and not (ended and state.work in self._shown):
            return
        if ended:
            self._shown.discard(state.work)
        else:
            self._shown.add(state.work)
            self._since[state.work] = now
        # The artifact belongs to the run and the task of whoever reports.
        self._waiting.put((copy_context(), state))

    def close(self) -> None:
        """Send what waits, unless that takes too long."""
        self._waiting.put(None)
        self._sender.join(LAST_WORDS_SECONDS)

    def _send_all(self) -> None:
        while (waiting := self._waiting.get()) is not None:
            context, state = waiting
            try:
                context.run(self._send, state)
            except Exception as error:  # noqa: BLE001  (progress is a courtesy: whatever it is, the work goes on)
                if not self._failed:
                    context.run(log.warning, "progress cannot be shown for now: %s", error)
                self._failed = True

    def _send(self, state: Progress) -> None:
        percent = 100.0 * state.done / max(state.total, 1)
        known = self._artifacts.pop(state.work, None)
        if known is None:
            made = create_progress_artifact(percent, description=state.work)
            known = made if isinstance(made, UUID) else UUID(str(made))
        else:
            update_progress_artifact(known, percent, description=f"{state.work} {state.note}".strip())
        if state.done < state.total:
            self._artifacts[state.work] = known


@contextmanager
def progress_artifacts() -> Iterator[None]:
    """Show the progress of work that lasts as artifacts of the flow run while the block runs."""
    if FlowRunContext.get() is None:
        yield
        return
    artifacts = _ProgressArtifacts()
    try:
        with progress.listening(artifacts):
            yield
    finally:
        artifacts.close()


def note_failure(flow: FlowRecord, run: FlowRun, state: State[Any]) -> None:
    """Say in the log which run ended how, and what to do; for ``on_failure`` and ``on_crashed``."""
    log.error(
        "flow run %s of %s ended %s: %s. What it stored is kept; mend the cause and run it again.",
        run.name,
        flow.name,
        state.name,
        (state.message or "no reason was given").rstrip("."),
    )
