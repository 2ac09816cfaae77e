"""What became of each video in a stage: small values that cross task borders instead of arrays."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

Status = Literal["done", "skipped", "failed"]


@dataclass(frozen=True, kw_only=True, slots=True)
class VideoOutcome:
    """What became of one video."""

    video: str
    """Video id, or the file's name where it is no video."""
    status: Status
    """``done`` now, ``skipped`` because nothing was to do, or ``failed``."""
    reason: str = ""
    """Why it failed or was skipped, one sentence; empty when done."""
    may_pass: bool = False
    """Whether the failure says nothing about the video, so that the same may go well another time: a full disk."""
    path: str = ""
    """The file, where a stage looked at one: two videos may have the same name in two folders."""
    seconds: float = field(default=0.0, compare=False)
    """How long the stage was busy with it; 0 where that was not measured. Says nothing of what became of it."""


def failures(outcomes: Iterable[VideoOutcome]) -> list[VideoOutcome]:
    """The outcomes that failed."""
    return [outcome for outcome in outcomes if outcome.status == "failed"]


def summary(outcomes: Iterable[VideoOutcome]) -> str:
    """How many videos ended how, e.g. ``3 of 200 failed``.

    >>> summary([VideoOutcome(video="a", status="done"), VideoOutcome(video="b", status="failed", reason="x")])
    '1 of 2 failed'
    """
    listed = list(outcomes)
    failed = len(failures(listed))
    if failed:
        return f"{failed} of {len(listed)} failed"
    done = sum(outcome.status == "done" for outcome in listed)
    return f"{done} done, {len(listed) - done} skipped"
