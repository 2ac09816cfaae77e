"""One way to start a stage from the command line: as its Prefect flow, or directly with the same result."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

from flows.reports import StageReport
from flows.torchrun import check_can_be_shared, is_helper
from pipeline.errors import ServerError
from pipeline.settings import RunSettings
from pipeline.settings_base import StrictSettings
from pipeline.settings_operations import RetrainSettings


def execute(name: str, settings: StrictSettings, *, direct: bool) -> StageReport:
    """Carry out a stage, or the ``full-pipeline``.

    Args:
        name: Name of the flow.
        settings: What that flow takes.
        direct: Call the plain functions; Prefect is not even imported.

    Raises:
        ServerError: ``PREFECT_API_URL`` names no server that answers, or Prefect's server was lost on the way.
        PipelineError, StorageError, FactError: The stage failed for a reason that users can mend.
    """
    check_can_be_shared(name)
    # One flow for all processes of a training: the first one's.
    if not direct and not is_helper():
        _quieten_embedded_server()
        from flows.chain import call_flow

        _prepare_prefect()
        with _server_that_may_be_lost():
            return call_flow(name, settings)
    return _call_directly(name, settings)


def execute_retrain(settings: RetrainSettings, *, direct: bool) -> StageReport:
    """Retrain; arguments and errors as for ``execute``."""
    check_can_be_shared("retrain")
    if not direct:
        _quieten_embedded_server()
        from flows.chain import report_of
        from flows.retrain import retrain

        _prepare_prefect()
        with _server_that_may_be_lost():
            return report_of(retrain(settings, return_state=True))
    from flows.retrain_stage import retrain_stage
    from flows.runner import DirectRunner

    return retrain_stage(settings, DirectRunner(), _call_directly)


def _quieten_embedded_server() -> None:
    """Called before Prefect is imported: its embedded server ends with the command, and complains of what it left."""
    os.environ.setdefault("PREFECT_SERVER_LOGGING_LEVEL", "CRITICAL")


def _prepare_prefect() -> None:
    """Make sure that the server answers, and that the terminal is not told by Prefect how a run ended: we do that."""
    from prefect.settings import PREFECT_API_URL

    address = PREFECT_API_URL.value()
    if address:
        _check_server(address)
    for handler in logging.getLogger().handlers:
        handler.addFilter(_is_no_end_of_a_run)


def _check_server(address: str) -> None:
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        try:
            client.raise_for_api_version_mismatch()
        except Exception as error:  # whatever it is, no flow could run
            raise ServerError(
                f"PREFECT_API_URL is {address}, and no flow can run there: {error}. Start a server with `prefect "
                "server start`, correct the address, or unset it: then a server is embedded for the moment."
            ) from error


@contextmanager
def _server_that_may_be_lost() -> Iterator[None]:
    from httpx import HTTPError

    try:
        yield
    except HTTPError as error:
        raise ServerError(
            f"Prefect's server was lost while the flow ran: {error}. What was stored is kept. Once the server answers, "
            "run the same command again."
        ) from error


def _is_no_end_of_a_run(record: logging.LogRecord) -> bool:
    of_a_run = record.name in {"prefect.flow_runs", "prefect.task_runs"}
    return not (of_a_run and record.getMessage().startswith("Finished in state"))


def _call_directly(name: str, settings: StrictSettings) -> StageReport:
    from flows import stages
    from flows.runner import DirectRunner

    if isinstance(settings, RunSettings) and name == "full-pipeline":
        return stages.full_pipeline(settings, _call_directly)
    return stages.STAGES[name](settings, DirectRunner())
