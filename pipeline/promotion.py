"""Whether a registered run becomes the champion that segments new videos."""

from dataclasses import dataclass
from typing import Any

from storage.folders import read_manifest
from storage.registry import RegisteredRun, Registry
from storage.store import Store

DECIDING_SCORE = "f1@50"
"""Segmental F1 at 50 % overlap under the first convention: the strictest figure of the papers' tables."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """Whether a run becomes champion."""

    promote: bool
    reason: str
    """One sentence."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Promotion:
    """What became of a registered run."""

    entry: RegisteredRun
    champion: RegisteredRun
    """The champion now."""
    reason: str


def decide(challenger: RegisteredRun, champion: RegisteredRun | None) -> Decision:
    """Promote unless the champion did better on the very same test videos.

    Where scores do not decide, because they are equal or of different test videos, the newer version leads: an
    old run that is scored once more changes nothing. A version that was rolled back stays so.
    """
    if champion is None:
        return Decision(promote=True, reason="it is the first model of this name")
    if champion.version == challenger.version:
        return Decision(promote=False, reason="it already was")
    if challenger.rolled_back:
        return Decision(promote=False, reason=rolled_back_reason(challenger))
    newer = challenger.version > champion.version
    if champion.test != challenger.test:
        age = "changed since" if newer else "are older than those of"
        reason = f"the test videos or labels {age} version {champion.version}, whose scores say nothing here"
        return Decision(promote=newer, reason=reason)
    ours, theirs = challenger.scores[DECIDING_SCORE], champion.scores[DECIDING_SCORE]
    compared = f"{DECIDING_SCORE} {ours:.1f} against {theirs:.1f} of version {champion.version}"
    return Decision(promote=ours > theirs or (ours == theirs and newer), reason=compared)


def rolled_back_reason(entry: RegisteredRun) -> str:
    """Why a version that led before does not lead again, whatever its scores."""
    return (
        f"version {entry.version} led and was rolled back; `factseg promote {entry.name} {entry.version}` "
        "gives it the lead again"
    )


def promote_if_better(registry: Registry, entry: RegisteredRun) -> Promotion:
    """Make a registered run the champion of its model where ``decide`` says so."""
    champion = registry.champions().get(entry.name)
    decision = decide(entry, champion)
    if decision.promote:
        # Why it leads is kept before it does. Where it does not, what was noted with it before still holds.
        led = champion.version if champion is not None else None
        registry.note_decision(entry, {"promote": True, "reasons": [decision.reason], "champion": led})
        registry.promote(entry)
    now = entry if decision.promote or champion is None else champion
    return Promotion(entry=entry, champion=now, reason=decision.reason)


def promote_version(store: Store, name: str, version: int) -> RegisteredRun:
    """Make a version the champion by hand, whatever its scores.

    Raises:
        MissingArtefactError: There is no such version, or its run is not in the store.
    """
    registry = Registry(store)
    entry = registry.version(name, version)
    # A champion that cannot be loaded would fail every new video.
    read_manifest(store.run_folder(entry.run))
    registry.promote(entry)
    return entry


def roll_back(store: Store, name: str) -> RegisteredRun:
    """Make the version that led before the champion once more; returns it.

    Raises:
        MissingArtefactError: None led before.
    """
    return Registry(store).roll_back(name)


def list_models(store: Store) -> list[dict[str, Any]]:
    """Every version of every model, the newest first, with its scores in percent and whether it is champion."""
    registry = Registry(store)
    if not registry.exists():
        return []
    champions = registry.champions()
    return [
        {
            "model": name,
            "version": entry.version,
            "champion": name in champions and champions[name].version == entry.version,
            "run": entry.run,
            "scores": entry.scores,
        }
        for name in registry.names()
        for entry in registry.versions(name)
    ]
