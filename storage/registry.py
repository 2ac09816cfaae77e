"""Tracking and registry: which runs there were, and which model ``factseg segment`` uses.

MLflow keeps both, by default in an SQLite file of the store; ``MLFLOW_TRACKING_URI`` names a server instead.
"""

import json
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from storage.atomic import artefact_lock, write_json_atomically
from storage.errors import MissingArtefactError
from storage.store import Store

if TYPE_CHECKING:
    from mlflow import MlflowClient

CHAMPION = "champion"
"""Alias of the version that segments new videos."""

_RUN_TAG = "factseg.run"
_SCORES_TAG = "factseg.scores"
_TEST_TAG = "factseg.test"


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


class Registry:
    """The runs and models of a store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._remote = os.environ.get("MLFLOW_TRACKING_URI", "")

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
        with artefact_lock(self._store.tracking_database):
            known = [entry for entry in self.versions(name) if entry.run == run and entry.test == test]
            if known:
                return known[0]
            tracked = self._track(name, scores=scores, parameters=parameters, curves=curves)
            if name not in self.names():
                self._client.create_registered_model(name)
            version = self._client.create_model_version(
                name,
                source=self._store.run_folder(run).absolute().as_posix(),
                run_id=tracked,
                tags={_RUN_TAG: run, _TEST_TAG: test, _SCORES_TAG: json.dumps(dict(scores), sort_keys=True)},
            )
        return _entry(version)

    def names(self) -> list[str]:
        """Names of all models."""
        return sorted(str(model.name) for model in self._client.search_registered_models())

    def versions(self, name: str) -> list[RegisteredRun]:
        """Every version of a model, the newest first; none where the model is unknown."""
        found = self._client.search_model_versions(f"name = '{name}'")
        return sorted((_entry(version) for version in found), key=lambda entry: -entry.version)

    def promote(self, entry: RegisteredRun) -> None:
        """Make a version the champion of its model."""
        self._client.set_registered_model_alias(entry.name, CHAMPION, str(entry.version))

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

    @cached_property
    def _client(self) -> "MlflowClient":
        # Both talk of creating tables at INFO, on the terminal of whoever only wanted a list.
        for noisy in ("mlflow.store.db.utils", "alembic"):
            logging.getLogger(noisy).setLevel(logging.WARNING)
        from mlflow import MlflowClient

        return MlflowClient(
            tracking_uri=self._remote or f"sqlite:///{self._store.tracking_database.absolute()}"
        )

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
            artifacts = (self._store.root / "mlflow").absolute().as_posix()
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
        if memo.exists():
            kept: dict[str, Any] = json.loads(memo.read_text(encoding="utf-8"))
            if kept["database"] == stamp:
                return {name: RegisteredRun(**entry) for name, entry in kept["champions"].items()}
        champions = self._ask_champions()
        if os.access(self._store.root, os.W_OK):
            entries = {name: asdict(entry) for name, entry in champions.items()}
            write_json_atomically(memo, {"database": stamp, "champions": entries})
        return champions


def _entry(version: Any) -> RegisteredRun:  # noqa: ANN401  (MLflow's ModelVersion, untyped)
    return RegisteredRun(
        name=str(version.name),
        version=int(version.version),
        run=version.tags[_RUN_TAG],
        test=version.tags[_TEST_TAG],
        scores=json.loads(version.tags[_SCORES_TAG]),
    )
