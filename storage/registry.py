"""Tracking and registry: which runs there were, and which model ``factseg segment`` uses.

MLflow keeps both, by default in an SQLite file of the store; ``MLFLOW_TRACKING_URI`` names a server instead. A
store by URL needs the server: SQLite is a file of one machine.
"""

import contextlib
import json
import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from storage.atomic import artefact_lock
from storage.database_seal import recorded
from storage.errors import DiskFullError, MissingArtefactError, StorageError, TrackingError
from storage.places import absolute, is_url
from storage.sealed_json import read_sealed_json, write_sealed_json
from storage.store import Store

if TYPE_CHECKING:
    from mlflow import MlflowClient

CHAMPION = "champion"
"""Alias of the version that segments new videos."""

_RUN_TAG = "factseg.run"
_SCORES_TAG = "factseg.scores"
_TEST_TAG = "factseg.test"
_FORMER_TAG = "factseg.former-champions"
"""Tag of a model: versions that led before the champion, the last one last."""
_DECISION_TAG = "factseg.decision"
_ROLLED_BACK_TAG = "factseg.rolled-back"
"""Tag of a version that somebody took the lead from."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RegisteredRun:
    """One version of a model in the registry."""

    name: str
    """Name of the model, that of its data set."""
    version: int
    run: str
    """Key of the run in the store."""
    test: str
    """Digest of the test videos and labels behind the scores; only equal ones can be compared."""
    scores: dict[str, float]
    """Percent, by name."""
    rolled_back: bool = False
    """Whether somebody took the lead from it: then only somebody gives it back."""


class Registry:
    """The runs and models of a store.

    Raises:
        TrackingError: The store is named by a URL and ``MLFLOW_TRACKING_URI`` names no server.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._remote = os.environ.get("MLFLOW_TRACKING_URI", "")
        check_tracking(store)

    def register(
        self,
        name: str,
        *,
        run: str,
        test: str,
        scores: Mapping[str, float],
        parameters: Mapping[str, str],
        curves: Sequence[Mapping[str, float]],
    ) -> RegisteredRun:
        """Record a run with its metrics and make it a version of model ``name``; once per run and test set.

        Args:
            name: Name of the model; no quotation marks, which MLflow's search has no way to say.
            run: Key of the run in the store.
            test: Digest of the test videos and labels.
            scores: Percent, by name.
            parameters: Settings as text.
            curves: Figures by epoch; each row has ``epoch``.
        """
        # SQLite lets one writer in at a time; two registrations of one run must not make two versions.
        with self._changing():
            known = [entry for entry in self.versions(name) if entry.run == run and entry.test == test]
            if known:
                return known[0]
            tracked = self._track(name, scores=scores, parameters=parameters, curves=curves)
            if name not in self.names():
                self._client.create_registered_model(name)
            version = self._client.create_model_version(
                name,
                source=self._source(run, tracked=tracked),
                run_id=tracked,
                tags={_RUN_TAG: run, _TEST_TAG: test, _SCORES_TAG: json.dumps(dict(scores), sort_keys=True)},
            )
        return _entry(version)

    def exists(self) -> bool:
        """Whether anything was ever registered; looking makes no database."""
        return bool(self._remote) or self._store.tracking_database.exists()

    def names(self) -> list[str]:
        """Names of all models."""
        return sorted(str(model.name) for model in self._client.search_registered_models())

    def versions(self, name: str) -> list[RegisteredRun]:
        """Every version of a model, the newest first; none where the model is unknown."""
        found = self._client.search_model_versions(f"name = '{name}'")
        return sorted((_entry(version) for version in found), key=lambda entry: -entry.version)

    def version(self, name: str, number: int) -> RegisteredRun:
        """One version of a model.

        Raises:
            MissingArtefactError: There is none; the message names those there are.
        """
        versions = self.versions(name)
        found = next((entry for entry in versions if entry.version == number), None)
        if found is None:
            known = ", ".join(str(entry.version) for entry in versions)
            there = f"its versions are {known}" if known else f"known are {', '.join(self.names()) or 'none'}"
            raise MissingArtefactError(
                f"{self._store.root} has no version {number} of model {name!r}: {there}. `factseg models` lists them."
            )
        return found

    def promote(self, entry: RegisteredRun) -> None:
        """Make a version the champion of its model; which one led before is remembered, a rollback forgotten."""
        with self._changing():
            champion = self._ask_champions().get(entry.name)
            if champion is not None and champion.version == entry.version:
                return
            former = self._former(entry.name, before=champion)
            if champion is not None:
                former.append(champion.version)
            self._lead(entry.name, entry.version, former=former)
            if entry.rolled_back:
                self._client.delete_model_version_tag(entry.name, str(entry.version), _ROLLED_BACK_TAG)

    def roll_back(self, name: str) -> RegisteredRun:
        """Give the lead back to the version that had it before the champion, and return it.

        The champion is marked, so that no comparison of scores makes it lead again.

        Raises:
            MissingArtefactError: No other version ever led this model.
        """
        with self._changing():
            versions = {entry.version: entry for entry in self.versions(name)}
            champion = self._ask_champions().get(name)
            known = self._former(name, before=champion) if versions else []
            former = [version for version in known if version in versions]
            if not former:
                raise MissingArtefactError(
                    f"No version of model {name!r} led before its champion, so there is nothing to go back to. "
                    "`factseg models` lists the versions, `factseg promote` chooses one."
                )
            if champion is not None:
                self._client.set_model_version_tag(name, str(champion.version), _ROLLED_BACK_TAG, "true")
            self._lead(name, former[-1], former=former[:-1])
        return versions[former[-1]]

    def note_decision(self, entry: RegisteredRun, facts: Mapping[str, Any]) -> None:
        """Keep with a version why it was promoted or not, as JSON."""
        text = json.dumps(dict(facts), sort_keys=True, ensure_ascii=False)
        with self._changing():
            self._client.set_model_version_tag(entry.name, str(entry.version), _DECISION_TAG, text)

    def champions(self) -> dict[str, RegisteredRun]:
        """The champion of every model that has one, by name."""
        if self._remote:
            return self._ask_champions()
        return self._remembered_champions()

    def champion(self, name: str = "") -> RegisteredRun:
        """The champion of model ``name``, which may be left out where only one model has one.

        Raises:
            MissingArtefactError: No such model, no champion, or several models and no name.
        """
        champions = self.champions()
        if not champions:
            raise MissingArtefactError(f"{self._store.root} has no trained model. Run `factseg run` first.")
        known = ", ".join(repr(model) for model in champions)
        if not name and len(champions) > 1:
            raise MissingArtefactError(
                f"{self._store.root} has several models: {known}. Name one with --model."
            )
        chosen = champions.get(name) if name else next(iter(champions.values()))
        if chosen is None:
            raise MissingArtefactError(
                f"No champion of model {name!r} in {self._store.root}. Known: {known}."
            )
        return chosen

    @contextlib.contextmanager
    def _changing(self) -> Iterator[None]:
        """Change the tracker alone, and note what its database holds then, for ``factseg verify``.

        Raises:
            DiskFullError: The disk of its database is full; nothing that was promised is lost.
        """
        database = self._store.tracking_database
        with artefact_lock(database):
            try:
                with contextlib.ExitStack() as noted:
                    if not self._remote and isinstance(database, Path):
                        noted.enter_context(recorded(database))
                    yield
            except Exception as error:
                # Deep inside of MLflow's own errors, SQLite says so in words alone.
                found = re.search(r"database or disk is full|disk I/O error", str(error))
                if found is None:
                    raise
                raise DiskFullError.writing(database, found[0]) from error

    @cached_property
    def _client(self) -> "MlflowClient":
        # Both talk of creating tables at INFO, on the terminal of whoever only wanted a list.
        for noisy in ("mlflow.store.db.utils", "alembic"):
            logging.getLogger(noisy).setLevel(logging.WARNING)
        from mlflow import MlflowClient

        # Against a server it would print addresses of runs among the data of our own commands.
        os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
        return MlflowClient(
            tracking_uri=self._remote or f"sqlite:///{self._store.tracking_database.absolute()}"
        )

    def _source(self, run: str, *, tracked: str) -> str:
        """What MLflow is told of where a version lies; the run's key among its tags is what counts."""
        if self._remote and self._store.is_local:
            # A server refuses folders that are not its own, and could not read them: they may be of another machine.
            return f"runs:/{tracked}/{run}"
        return absolute(self._store.run_folder(run))

    def _track(
        self,
        name: str,
        *,
        scores: Mapping[str, float],
        parameters: Mapping[str, str],
        curves: Sequence[Mapping[str, float]],
    ) -> str:
        from mlflow.entities import Metric, Param

        experiment = self._client.get_experiment_by_name(name)
        if experiment is not None:
            experiment_id = experiment.experiment_id
        else:
            artifacts = absolute(self._store.root / "mlflow")
            experiment_id = self._client.create_experiment(name, None if self._remote else artifacts)
        tracked = str(self._client.create_run(experiment_id).info.run_id)
        # The tracker allows no "@" in a name: f1@50 is shown as "f1 at 50".
        metrics = [Metric(key.replace("@", " at "), value, 0, 0) for key, value in scores.items()]
        for row in curves:
            epoch = int(row["epoch"])
            metrics += [Metric(key, value, 0, epoch) for key, value in row.items() if key != "epoch"]
        self._client.log_batch(tracked, params=[Param(key, value) for key, value in parameters.items()])
        # The tracker takes at most 1000 figures a call.
        for start in range(0, len(metrics), 1000):
            self._client.log_batch(tracked, metrics=metrics[start : start + 1000])
        self._client.set_terminated(tracked)
        return tracked

    def _former(self, name: str, *, before: RegisteredRun | None) -> list[int]:
        """Versions that led before the champion, the last one last."""
        tags = self._client.get_registered_model(name).tags
        former = [int(version) for version in json.loads(tags.get(_FORMER_TAG, "[]"))]
        # A promotion that was cut short has remembered the champion, and then left it in the lead.
        while before is not None and former and former[-1] == before.version:
            former.pop()
        return former

    def _lead(self, name: str, version: int, *, former: Sequence[int]) -> None:
        # The memory first: a champion without it could not be rolled back.
        self._client.set_registered_model_tag(name, _FORMER_TAG, json.dumps(list(former)))
        self._client.set_registered_model_alias(name, CHAMPION, str(version))

    def _ask_champions(self) -> dict[str, RegisteredRun]:
        models = self._client.search_registered_models()
        versions = {
            str(model.name): self._client.get_model_version_by_alias(model.name, CHAMPION)
            for model in models
            if CHAMPION in model.aliases
        }
        return {name: _entry(versions[name]) for name in sorted(versions)}

    def _remembered_champions(self) -> dict[str, RegisteredRun]:
        # Importing MLflow takes longer than segmenting a video whose features are there, so the answer is
        # kept beside the database for as long as the database file stays as it is.
        database = self._store.tracking_database
        if not database.exists():
            return {}
        stat = database.stat()
        stamp = [stat.st_size, stat.st_mtime_ns]
        memo = self._store.root / "champions.json"
        with contextlib.suppress(StorageError):
            # A memo that is missing or damaged is made anew.
            kept = read_sealed_json(memo)
            if kept["database"] == stamp:
                return {name: RegisteredRun(**entry) for name, entry in kept["champions"].items()}
        champions = self._ask_champions()
        if isinstance(memo, Path) and not self._store.read_only and os.access(memo.parent, os.W_OK):
            entries = {name: asdict(entry) for name, entry in champions.items()}
            # Whoever only asks needs no room on the disk.
            with contextlib.suppress(DiskFullError):
                write_sealed_json(memo, {"database": stamp, "champions": entries})
        return champions


def check_tracking(store: Store) -> None:
    """Make sure that models of the store can be registered, before hours are spent on one.

    Raises:
        TrackingError: The store is named by a URL and ``MLFLOW_TRACKING_URI`` names no server.
    """
    address = os.environ.get("MLFLOW_TRACKING_URI", "")
    if store.is_local or _is_server(address):
        return
    found = f"is {address!r}" if address else "is not set"
    raise TrackingError(
        f"The store {store.root} is named by a URL, and MLFLOW_TRACKING_URI {found}: models of such a store are "
        "registered with an MLflow server, never in a file of one machine. Start one with `mlflow server` and set "
        "MLFLOW_TRACKING_URI to its address, such as http://127.0.0.1:5000."
    )


def _is_server(address: str) -> bool:
    """Whether MLflow would keep its tables behind this address, instead of in a file here."""
    scheme = address.partition("://")[0]
    return address == "databricks" or (is_url(address) and scheme not in {"file", "sqlite"})


def _entry(version: Any) -> RegisteredRun:  # noqa: ANN401  (MLflow's ModelVersion, untyped)
    return RegisteredRun(
        name=str(version.name),
        version=int(version.version),
        run=version.tags[_RUN_TAG],
        test=version.tags[_TEST_TAG],
        scores=json.loads(version.tags[_SCORES_TAG]),
        rolled_back=_ROLLED_BACK_TAG in version.tags,
    )
