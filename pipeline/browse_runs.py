"""The runs of a store as people browse them: scores with their intervals, curves, settings and reports."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from pydantic import ValidationError

from pipeline.browse_cache import Remembered
from pipeline.report_page import curve_panels, grouped
from pipeline.run_files import DESCRIPTION_FILE, SETTINGS_FILE, read_curves, trained_at
from pipeline.settings import DatasetSettings
from storage.errors import CorruptArtefactError, StorageError
from storage.folders import is_finished, read_manifest
from storage.places import listed
from storage.registry import Registry
from storage.sealed_json import read_sealed_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from storage.places import Place
    from storage.store import Store

REPORT_FILE: Final = "report.html"


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """One scoring of a run."""

    key: str
    run: str
    created_at: str
    scores: Mapping[str, Mapping[str, float]]
    """Percent by name, by convention."""
    intervals: Mapping[str, Mapping[str, Sequence[float] | None]]
    """95 % interval by name, by convention."""
    zero_shot: Mapping[str, Mapping[str, Mapping[str, float | None]]]

    @property
    def headline(self) -> tuple[Mapping[str, float], Mapping[str, Sequence[float] | None]]:
        """Figures and intervals of the first convention."""
        first = next(iter(self.scores), "")
        return self.scores.get(first, {}), self.intervals.get(first, {})


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelFacts:
    """What a model is, as far as pages show it."""

    kind: str
    class_names: tuple[str, ...]
    background: tuple[int, ...]
    inputs: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class BrowsedRun:
    """One finished run."""

    key: str
    name: str
    """Name of its data set; empty where its settings are those of another version."""
    model: ModelFacts | None
    trained_at: str
    """By ISO 8601 in UTC; empty where its manifest does not say."""
    evaluations: tuple[Evaluation, ...]
    """The latest first."""
    champion_of: str
    """Name of the model that it leads, else empty."""
    damage: str = ""
    """Why it cannot be read, else empty."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunDetails:
    """What the page of one run shows besides its scores."""

    panels: list[dict[str, Any]]
    """Curves by epoch."""
    epochs: int
    facts: list[tuple[str, str]]
    settings: list[tuple[str, list[tuple[str, str]]]]
    videos: tuple[str, ...]
    notices: tuple[str, ...] = field(default=())


class Runs:
    """The runs of a store. Nothing is written."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._champions = Remembered(store.tracking_database, self._read_champions)
        self._evaluations: dict[str, Evaluation] = {}
        self._trained: dict[str, str] = {}

    def all(self) -> list[BrowsedRun]:
        """Every finished run, the one trained last first."""
        evaluations = self.evaluations()
        leads, _ = self._champions.get()
        found = [
            self._run(folder, evaluations=evaluations, leads=leads)
            for folder in listed(self._store.runs, "*")
            if is_finished(folder)
        ]
        return sorted(found, key=lambda run: (run.trained_at, run.key), reverse=True)

    def one(self, key: str) -> BrowsedRun:
        """One run.

        Raises:
            InvalidNameError: The key is no key.
            MissingArtefactError: There is no such finished run.
            CorruptArtefactError: It cannot be read.
        """
        folder = self._store.run_folder(key)
        read_manifest(folder)
        return self._run(folder, evaluations=self.evaluations(), leads=self._champions.get()[0])

    def champions_unknown(self) -> str:
        """Why nobody can say which run leads; empty where that is known."""
        return self._champions.get()[1]

    def evaluations(self) -> list[Evaluation]:
        """Every finished evaluation that can be read, the latest first; a manifest never changes."""
        found = {}
        for folder in listed(self._store.root / "evaluations", "*"):
            if folder.name in self._evaluations:
                found[folder.name] = self._evaluations[folder.name]
            elif is_finished(folder):
                try:
                    found[folder.name] = _evaluation(folder)
                except StorageError:
                    # `factseg verify` names it; a page about the others is not refused for it.
                    continue
        self._evaluations = found
        return sorted(found.values(), key=lambda each: each.created_at, reverse=True)

    def _run(
        self, folder: Place, *, evaluations: Sequence[Evaluation], leads: Mapping[str, str]
    ) -> BrowsedRun:
        damage, trained, name, model = "", "", "", None
        try:
            # A manifest names every video, and never changes.
            if folder.name not in self._trained:
                self._trained[folder.name] = trained_at(folder)
            trained = self._trained[folder.name]
            name = _dataset_name(read_sealed_json(folder / SETTINGS_FILE))
            model = _model_facts(folder)
        except StorageError as error:
            damage = str(error)
        return BrowsedRun(
            key=folder.name,
            name=name,
            model=model,
            trained_at=trained,
            evaluations=tuple(each for each in evaluations if each.run == folder.name),
            champion_of=leads.get(folder.name, ""),
            damage=damage,
        )

    def _read_champions(self) -> tuple[dict[str, str], str]:
        try:
            champions = Registry(self._store).champions()
        except StorageError as error:
            return {}, str(error)
        return {entry.run: name for name, entry in champions.items()}, ""


def run_details(store: Store, key: str) -> RunDetails:
    """Curves, settings and facts of a finished run.

    Raises:
        StorageError: One of its files cannot be read.
    """
    folder = store.run_folder(key)
    manifest = read_manifest(folder)
    curves = read_curves(folder)
    names = {
        "git_revision": "git revision",
        "machine": "machine",
        "seconds": "seconds of training",
        "seed": "seed",
    }
    return RunDetails(
        panels=curve_panels(curves),
        epochs=len(curves),
        facts=[(title, str(manifest[name])) for name, title in names.items() if name in manifest],
        settings=grouped(read_sealed_json(folder / SETTINGS_FILE)),
        videos=tuple(sorted(manifest["videos"])),
        notices=tuple(manifest.get("notices", ())),
    )


def model_facts(store: Store, run: str) -> ModelFacts | None:
    """What the model of a run is; None where the run is not there any more."""
    folder = store.run_folder(run)
    return _model_facts(folder) if is_finished(folder) else None


def report_of(store: Store, key: str) -> bytes:
    """The page of an evaluation, byte for byte as it was written.

    Raises:
        InvalidNameError: The key is no key.
        MissingArtefactError: There is no such finished evaluation, or it has no page.
        CorruptArtefactError: The page is not what was written.
    """
    folder = store.evaluation_folder(key)
    manifest = read_manifest(folder)
    path = folder / REPORT_FILE
    content = path.read_bytes() if path.is_file() else b""
    if hashlib.sha256(content).hexdigest() != manifest["files"].get(REPORT_FILE):
        raise CorruptArtefactError(
            f"The report of evaluation {key} is not what was written. Delete the folder {folder} and run "
            "`factseg evaluate` again."
        )
    return content


def _evaluation(folder: Place) -> Evaluation:
    facts = read_manifest(folder)
    return Evaluation(
        key=folder.name,
        run=str(facts["run"]),
        created_at=str(facts.get("created_at", "")),
        **{name: facts.get(name, {}) for name in ("scores", "intervals", "zero_shot")},
    )


def _dataset_name(settings: Mapping[str, Any]) -> str:
    try:
        return DatasetSettings.model_validate(settings.get("dataset", {})).title
    except ValidationError:
        return ""


def _model_facts(folder: Place) -> ModelFacts:
    found = read_sealed_json(folder / DESCRIPTION_FILE)
    try:
        return ModelFacts(
            kind=str(found["kind"]),
            class_names=tuple(found["class_names"]),
            background=tuple(found["background"]),
            inputs=tuple(item["spec"] for item in found["inputs"]),
        )
    except (KeyError, TypeError) as error:
        raise CorruptArtefactError(
            f"{folder / DESCRIPTION_FILE} describes no model ({error!r}). Run `factseg verify`."
        ) from error
