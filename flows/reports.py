"""What a stage reports: small values only; arrays stay in the store."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from pipeline.outcome import VideoOutcome

RUN_LOG: Final = "flows.run_log"
"""Logger of what a flow says of how it ended: it belongs into the log of the run. The command line, which shows its
user the same, leaves it out."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StageReport:
    """What a stage did."""

    stage: str
    """Name of the flow."""
    outcomes: tuple[VideoOutcome, ...] = ()
    """What became of each video."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """JSON-able results: keys, paths, scores."""
    notes: tuple[str, ...] = ()
    """Sentences worth showing."""
    conclusion: str = ""
    """What the stage decided, for the message of the flow's state; empty where it decides nothing."""
