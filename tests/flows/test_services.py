"""A server on PostgreSQL with MLflow and a worker, without containers: many runs at once, and a database that goes."""

import os
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from flows.postgres import find_binaries
from pipeline.errors import SettingsError
from storage.store import Store
from tests.flows.conftest import ROOT
from tests.flows.server import Server, wait_for

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


@pytest.fixture(scope="module")
def services():
    require_postgresql()
    # Not in pytest's folder, which PostgreSQL's own user may not enter.
    with tempfile.TemporaryDirectory(prefix="factseg-services-") as folder:
        Path(folder).chmod(0o755)
        running = Running(folder)
        yield running
        if running.process.poll() is None:
            running.interrupt()


@pytest.fixture(scope="module")
def server(services, tmp_path_factory):
    """A client of that server."""
    client = Server(tmp_path_factory.mktemp("client"), **services.environment)
    client.port = int(services.environment["PREFECT_API_URL"].split(":")[2].split("/")[0])
    yield client
    client.close()


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
    ended = server.flow_runs(name={"any_": [run["name"] for run in server.flow_runs(id={"any_": runs})]})
    assert [run["run_count"] for run in ended] == [1] * RUNS


def test_a_database_that_is_gone_for_twenty_seconds_costs_no_run(server, services, trained, dataset):
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


def test_everything_stops_with_one_interrupt(services):
    pids = subprocess.run(
        ["pgrep", "-P", str(services.process.pid)], capture_output=True, text=True, check=True
    ).stdout.split()
    assert len(pids) >= 4
    assert services.interrupt() == 130
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]
