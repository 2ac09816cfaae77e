"""A server on PostgreSQL with MLflow and a worker, without containers: many runs at once, and a database that goes."""

import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from mlflow import MlflowClient

from flows.postgres import find_binaries, make_cluster
from pipeline.errors import SettingsError
from storage.store import Store
from tests.flows.conftest import ROOT
from tests.flows.server import Server, deployed, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.ops, pytest.mark.timeout(1800)]

RUNS = 20


def require_postgresql():
    try:
        find_binaries()
    except SettingsError as error:
        pytest.skip(str(error))


class Running:
    """`factseg services FOLDER` as a process, and what it printed."""

    def __init__(self, folder):
        def take_interrupts():
            # A shell that starts this test in the background makes it ignore Ctrl-C; the command must not.
            signal.signal(signal.SIGINT, signal.default_int_handler)

        self.folder = Path(folder)
        self.environment = {}
        self.process = subprocess.Popen(
            [sys.executable, "-c", "from flows.cli import main; main()", "services", str(folder)],
            cwd=ROOT,
            env={name: value for name, value in os.environ.items() if name != "PREFECT_API_URL"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=take_interrupts,  # noqa: PLW1509  (no thread runs between fork and exec here)
        )
        self.errors = []
        self.reader = threading.Thread(target=lambda: self.errors.extend(self.process.stderr), daemon=True)
        self.reader.start()
        for _ in range(2):
            line = self.process.stdout.readline()
            assert line.startswith("export "), "".join(self.errors)
            name, _, value = line.removeprefix("export ").strip().partition("=")
            self.environment[name] = value

    def logs(self):
        """The ends of what the services wrote, for whoever must know why a test failed."""
        return "\n".join(
            f"== {log.name}\n{log.read_text(errors='replace')[-6000:]}" for log in self.folder.glob("*.log")
        )

    def interrupt(self):
        self.process.send_signal(signal.SIGINT)
        code = self.process.wait(timeout=180)
        self.reader.join()
        self.process.stdout.close()
        self.process.stderr.close()
        return code


@contextmanager
def folder_for_postgresql():
    """A folder that PostgreSQL's own user may enter, as it may not enter pytest's."""
    require_postgresql()
    with tempfile.TemporaryDirectory(prefix="factseg-services-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@contextmanager
def started(folder):
    """The services of a folder, for as long as the block runs or until they are interrupted."""
    running = Running(folder)
    try:
        yield running
    finally:
        if running.process.poll() is None:
            running.interrupt()


@contextmanager
def client_of(services, home):
    """A client of the server among the services."""
    client = Server(home, **services.environment)
    client.port = int(services.environment["PREFECT_API_URL"].split(":")[2].split("/")[0])
    try:
        yield client
    finally:
        client.close()


@pytest.fixture(scope="module")
def services():
    with folder_for_postgresql() as folder, started(folder) as running:
        yield running


@pytest.fixture(scope="module")
def server(services, tmp_path_factory):
    with client_of(services, tmp_path_factory.mktemp("client")) as client:
        yield client


def most_at_once(runs):
    """How many of the runs were under way at one moment, at most."""
    ends = [(run["start_time"], 1) for run in runs] + [(run["end_time"], -1) for run in runs]
    under_way = most = 0
    for _, change in sorted(ends):
        under_way += change
        most = max(most, under_way)
    return most


def test_twenty_runs_at_once_lose_none_and_do_none_twice(server, trained, dataset):
    store, _ = trained
    videos = [dataset / "videos" / f"{name}.mp4" for name in "abc"]
    # The champion of the store is in its SQLite registry, so the run is named.
    key = next((store / "runs").glob("[0-9a-f]*")).name
    runs = [
        server.submit(
            "segment/segment", {"videos": [str(videos[index % 3])], "store": str(store), "run": key}
        )
        for index in range(RUNS)
    ]
    assert len(set(runs)) == RUNS
    assert [server.wait_for_end(run)[0] for run in runs] == ["Completed"] * RUNS
    assert len(list(Store(store).root.glob("predictions/*.parquet"))) == 3
    ended = server.flow_runs(id={"any_": runs})
    assert [run["run_count"] for run in ended] == [1] * RUNS
    assert most_at_once(ended) >= 5


def test_the_model_of_a_full_pipeline_is_registered_with_mlflow_on_postgresql_and_segments(
    server, services, dataset, tmp_path
):
    settings = {
        "store": str(tmp_path / "store"),
        "dataset": {part: str(dataset / part) for part in ("videos", "labels", "splits")}
        | {"mapping": str(dataset / "mapping.txt"), "name": "tiny"},
        "extraction": {"features": ["clip:stride=5"], "weights": "random"},
        "training": {"recipe": str(dataset / "tiny.yaml"), "epochs": 3},
    }
    run = server.submit("full-pipeline/full-pipeline", settings)
    assert server.wait_for_end(run) == ("Completed", "3 done, 0 skipped"), services.logs()
    # Not in a file of the store.
    assert not (tmp_path / "store" / "mlflow.db").exists()
    (key,) = [path.name for path in (tmp_path / "store" / "runs").glob("[0-9a-f]*")]
    leading = champion_of(services)
    assert (int(leading.version), leading.tags["factseg.run"]) == (1, key)
    new = {"videos": [str(dataset / "videos" / "a.mp4")], "store": str(tmp_path / "store")}
    run = server.submit("segment/segment", new)
    assert server.wait_for_end(run) == ("Completed", "1 done, 0 skipped"), services.logs()


def champion_of(services):
    """The champion of the tiny data set, as MLflow's server says without us."""
    registry = MlflowClient(services.environment["MLFLOW_TRACKING_URI"])
    return registry.get_model_version_by_alias("tiny", "champion")


def test_a_database_that_stands_still_for_twenty_seconds_costs_no_run(server, services, trained, dataset):
    store, _ = trained
    key = next((store / "runs").glob("[0-9a-f]*")).name
    settings = {"videos": [str(dataset / "videos" / "a.mp4")], "store": str(store), "run": key}
    postmaster = int(
        subprocess.run(
            ["pgrep", "-P", str(services.process.pid), "-f", "bin/postgres"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split()[0]
    )
    run = server.submit("segment/segment", settings)
    wait_for(lambda: server.state(run)[1] == "RUNNING", what="the start of the run")
    # A frozen database: connections hang as they do when its machine is gone for a while.
    os.kill(postmaster, signal.SIGSTOP)
    children = subprocess.run(
        ["pgrep", "-P", str(postmaster)], capture_output=True, text=True, check=True
    ).stdout.split()
    for child in children:
        os.kill(int(child), signal.SIGSTOP)
    timer = threading.Timer(
        20.0, lambda: [os.kill(int(pid), signal.SIGCONT) for pid in (*children, postmaster)]
    )
    timer.start()
    timer.join()
    assert server.wait_for_end(run)[0] == "Completed", services.logs()
    again = server.submit("segment/segment", settings)
    assert server.wait_for_end(again)[0] == "Completed"


def test_everything_stops_with_one_interrupt_and_started_again_it_finds_everything_again(
    services, server, tmp_path
):
    # Those that are yet to come are scheduled anew when their deployment is made again.
    over = {"type": {"any_": ["COMPLETED"]}}
    known = {run["id"] for run in server.flow_runs(state=over)}
    assert known
    leading = champion_of(services)
    pids = subprocess.run(
        ["pgrep", "-P", str(services.process.pid)], capture_output=True, text=True, check=True
    ).stdout.split()
    assert len(pids) >= 4
    assert services.interrupt() == 130
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]
    with started(services.folder) as again, client_of(again, tmp_path) as client:
        assert known <= {run["id"] for run in client.flow_runs(state=over)}
        assert champion_of(again).run_id == leading.run_id
        # Deployed and automated again, nothing is there twice.
        assert len(client.post("/deployments/filter", {})) == 7
        assert len(client.post("/automations/filter", {})) == 1


def test_a_database_that_is_stopped_for_twenty_seconds_costs_no_run(trained, dataset, tmp_path):
    """Connections are refused meanwhile, as they are when PostgreSQL is brought up to date."""
    store, _ = trained
    key = next((store / "runs").glob("[0-9a-f]*")).name
    settings = {"videos": [str(dataset / "videos" / "b.mp4")], "store": str(store), "run": key}
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    patience = dict(re.findall(r"`(PREFECT_(?:SERVER_DATABASE|CLIENT)\w+)=([\d,]+)`", page))
    assert len(patience) == 4
    with folder_for_postgresql() as folder:
        cluster = make_cluster(folder / "postgresql")
        database = cluster.start()
        try:
            cluster.make_database("prefect")
            url = cluster.url("prefect", driver="asyncpg")
            with deployed(tmp_path, PREFECT_API_DATABASE_CONNECTION_URL=url, **patience) as server:
                runs = [server.submit("segment/segment", settings) for _ in range(5)]
                # The worker hands them out, one after the other.
                wait_for(lambda: any(server.state(run)[1] == "RUNNING" for run in runs), what="a run")
                runs.append(server.submit("segment/segment", settings, after_seconds=10))
                database.stop()
                stopped = datetime.now(UTC)
                time.sleep(20)
                database = cluster.start()
                runs.append(server.submit("segment/segment", settings))
                log = tmp_path / "log"
                for run in runs:
                    assert server.wait_for_end(run)[0] == "Completed", log.read_text()[-20_000:]
                ended = server.flow_runs(id={"any_": runs})
                assert [run["run_count"] for run in ended] == [1] * 7
                # It did reach the server and the runs.
                assert "ConnectionRefusedError" in log.read_text()
                assert min(datetime.fromisoformat(run["end_time"]) for run in ended) > stopped
        finally:
            database.stop()
