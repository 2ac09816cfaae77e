"""How the steps of a stage are carried out: directly here, or as Prefect tasks. The stages do not care."""

import logging
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from fact.errors import FactError
from pipeline.cluster import RayCluster
from pipeline.errors import PipelineError, SettingsError
from storage.errors import StorageError

Given = TypeVar("Given")
Made = TypeVar("Made")

EXPECTED_ERRORS = (PipelineError, StorageError, FactError)
"""What users can mend: the message is all they need, without a traceback."""

log = logging.getLogger(__name__)


class Runner(Protocol):
    """Carries out steps."""

    def run(self, name: str, step: Callable[[], Made]) -> Made:
        """Carry out one step; what it raises is raised."""

    def map(
        self,
        name: str,
        step: Callable[[Given], Made],
        batches: Sequence[Given],
        *,
        on: RayCluster | None = None,
    ) -> list[Made | Exception]:
        """Carry out a step for every batch; a batch that broke gives its exception and the others go on.

        What users can mend is raised: it would be the same for every batch.

        Args:
            name: What the step is called.
            step: A module's function, or a ``partial`` of one with settings and paths: it may go to other machines.
            batches: What it is given, each in turn.
            on: The cluster that carries it out; by default this machine does.
        """


class DirectRunner:
    """Carries out steps here and now, without Prefect."""

    def run(self, name: str, step: Callable[[], Made]) -> Made:
        """Carry out one step; what it raises is raised."""
        log.debug("step %s", name)
        return step()

    def map(
        self,
        name: str,
        step: Callable[[Given], Made],
        batches: Sequence[Given],
        *,
        on: RayCluster | None = None,
    ) -> list[Made | Exception]:
        """Carry out a step for every batch; a batch that broke gives its exception and the others go on."""
        if on is not None:
            raise SettingsError("--direct works on this machine alone. Leave out --direct or --runner ray.")
        results: list[Made | Exception] = []
        for batch in batches:
            try:
                results.append(step(batch))
            except EXPECTED_ERRORS:
                raise
            except Exception as error:  # a broken batch must not take the others with it
                log.exception("step %s", name)
                results.append(error)
        return results
