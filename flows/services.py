"""Prefect, MLflow and a worker on PostgreSQL, without containers: started together, stopped together."""

import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from flows.postgres import Cluster, make_cluster
from flows.service import Service, answers_http, free_port, wait_until
from pipeline.errors import SettingsError

log = logging.getLogger(__name__)

PROJECT = Path(__file__).resolve().parents[1]
"""Folder of ``prefect.yaml`` and ``crashed-runs.yaml``."""

POOL = "factseg"

CRASHED_RUNS = "factseg-crashed-runs"
"""Name of the automation of ``crashed-runs.yaml``."""

# As runs have it by prefect.yaml: a server without its database answers 500, and a worker that is handing out a run
# ends with that error unless it asks again.
_PATIENCE = {"PREFECT_CLIENT_RETRY_EXTRA_CODES": "500,504", "PREFECT_CLIENT_MAX_RETRIES": "8"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Services:
    """What runs, and what others must set to use it."""

    environment: dict[str, str]
    """``PREFECT_API_URL`` and ``MLFLOW_TRACKING_URI``."""
    running: tuple[Service, ...]

    def wait(self) -> None:
        """Wait until one of them ends.

        Raises:
            SettingsError: One did; the message names its log.
        """
        while True:
            for service in self.running:
                if not service.is_running():
                    raise SettingsError(f"{service.name} ended by itself. Its log says why: {service.log}.")
            time.sleep(1.0)


@contextmanager
def run_services(folder: Path, *, worker: bool) -> Iterator[Services]:
    """Start PostgreSQL, Prefect's server, MLflow's server and a worker; stop all of them after the block.

    Everything listens on 127.0.0.1, on ports that were free. The folder keeps the data, the logs and the password
    of the database; a second start on it finds everything again.

    Args:
        folder: Where the services keep what they know.
        worker: Whether to deploy the flows and start a worker.

    Raises:
        SettingsError: PostgreSQL or psycopg is not installed, or a service does not come up.
    """
    folder = folder.absolute()
    cluster = make_cluster(folder / "postgresql")
    with ExitStack() as stack:
        database = cluster.start()
        stack.callback(database.stop)
        running = [database]
        for name in ("prefect", "mlflow"):
            cluster.make_database(name)
        environment: dict[str, str] = {}
        for start in (_start_prefect, _start_mlflow):
            service, variables = start(folder, cluster)
            stack.callback(service.stop)
            running.append(service)
            environment |= variables
        if worker:
            running.append(_start_worker(folder, environment))
            stack.callback(running[-1].stop)
        yield Services(environment=environment, running=tuple(running))


def _start_prefect(folder: Path, cluster: Cluster) -> tuple[Service, dict[str, str]]:
    port = free_port()
    environment = {
        **os.environ,
        "PREFECT_HOME": str(folder / "prefect"),
        "PREFECT_API_DATABASE_CONNECTION_URL": cluster.url("prefect", driver="asyncpg"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        # A database that is gone for some seconds makes answers late, not wrong: by default the server gives up after
        # 10 s with an error that its clients do not try again. Shorter than their own limit, which is 60 s.
        "PREFECT_SERVER_DATABASE_TIMEOUT": "50",
        "PREFECT_SERVER_DATABASE_CONNECTION_TIMEOUT": "50",
    }
    environment.pop("PREFECT_API_URL", None)
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    service = Service.start("prefect", command, log=folder / "prefect.log", environment=environment)
    wait_until(service, lambda: answers_http(f"http://127.0.0.1:{port}/api/health"))
    return service, {"PREFECT_API_URL": f"http://127.0.0.1:{port}/api"}


def _start_mlflow(folder: Path, cluster: Cluster) -> tuple[Service, dict[str, str]]:
    port = free_port()
    command = [
        *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)),
        *("--artifacts-destination", str(folder / "mlflow"), "--workers", "1"),
    ]
    # In the environment, because everybody on the machine can read a command line, and this holds the password.
    environment = {**os.environ, "MLFLOW_BACKEND_STORE_URI": cluster.url("mlflow", driver="psycopg")}
    # It would start half a dozen processes for jobs that nobody here submits.
    environment["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"
    environment.pop("MLFLOW_TRACKING_URI", None)
    service = Service.start("mlflow", command, log=folder / "mlflow.log", environment=environment)
    wait_until(service, lambda: answers_http(f"http://127.0.0.1:{port}/health"))
    return service, {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{port}"}


def _start_worker(folder: Path, environment: dict[str, str]) -> Service:
    variables = {**os.environ, **_PATIENCE, **environment, "PREFECT_HOME": str(folder / "prefect")}
    prefect = [sys.executable, "-m", "prefect"]

    def carry_out(step: str, *arguments: str) -> int:
        command = [*prefect, *arguments]
        service = Service.start(step, command, log=folder / f"{step}.log", environment=variables, cwd=PROJECT)
        return service.process.wait()

    def must(step: str, *arguments: str) -> None:
        if carry_out(step, *arguments):
            raise SettingsError(
                f"`prefect {' '.join(arguments)}` failed. Its log says why: {folder / step}.log."
            )

    must("pool", "work-pool", "create", "--overwrite", "--type", "process", POOL)
    must("deploy", "--no-prompt", "deploy", "--all", "--prefect-file", str(PROJECT / "prefect.yaml"))
    # Made a second time it would act twice.
    if carry_out("automation", "automation", "inspect", CRASHED_RUNS):
        must("automation", "automation", "create", "--from-file", str(PROJECT / "crashed-runs.yaml"))
    command = [*prefect, "worker", "start", "--pool", POOL]
    log.info("flows are deployed; a worker waits for their runs")
    return Service.start("worker", command, log=folder / "worker.log", environment=variables, cwd=PROJECT)
