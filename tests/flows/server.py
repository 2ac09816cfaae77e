"""A real Prefect server with real workers, started as an operator starts them."""

import json
import os
import re
import shlex
import socket
import subprocess
import sys
import time
import tomllib
import urllib.error
import urllib.request
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.flows.conftest import ROOT

DEADLINE_SECONDS = 600


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(answers, *, what, seconds=DEADLINE_SECONDS):
    """Ask again and again until the answer is true, and return it."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        answer = answers()
        if answer:
            return answer
        time.sleep(0.5)
    return pytest.fail(f"{what} did not come within {seconds} s")


def answers(url):
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False


class Server:
    """A Prefect server on a free port, with its own database."""

    def __init__(self, home: Path, **environment: str):
        self.home = home
        self.port = free_port()
        self.environment = {
            **os.environ,
            "PREFECT_HOME": str(home),
            "PREFECT_API_URL": f"http://127.0.0.1:{self.port}/api",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "DO_NOT_TRACK": "1",
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
            **environment,
        }
        self._processes = {}
        self._log = (home / "log").open("a")

    def start(self, name, *arguments):
        """Start `prefect ARGUMENTS` as a process that goes on, under a name."""
        self._processes[name] = subprocess.Popen(
            [sys.executable, "-m", "prefect", *map(str, arguments)],
            env=self.environment,
            cwd=ROOT,
            stdout=self._log,
            stderr=self._log,
        )
        return self._processes[name]

    def start_server(self):
        self.start("server", "server", "start", "--host", "127.0.0.1", "--port", self.port)
        wait_for(lambda: answers(f"http://127.0.0.1:{self.port}/api/health"), what="the server")

    def start_worker(self, name="worker"):
        self.start(name, "worker", "start", "--pool", "factseg", "--name", name)

    def end(self, name, *, kill=False):
        process = self._processes.pop(name)
        if kill:
            process.kill()
        else:
            process.terminate()
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def close(self):
        for name in reversed(list(self._processes)):
            self.end(name)
        self._log.close()

    def prefect(self, *arguments, check=True):
        """Run `prefect ARGUMENTS` to its end."""
        ran = subprocess.run(
            [sys.executable, "-m", "prefect", *map(str, arguments)],
            env=self.environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=DEADLINE_SECONDS,
            check=False,
        )
        assert ran.returncode == 0 or not check, ran.stdout + ran.stderr
        return ran

    def post(self, path, value):
        """What the API answers to a posted JSON value."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/api{path}",
            data=json.dumps(value).encode(),
            headers={"Content-Type": "application/json"},
        )

        def answered():
            try:
                with urllib.request.urlopen(request, timeout=60) as answer:
                    return (json.loads(answer.read() or "null"),)
            except urllib.error.HTTPError as error:
                # Its SQLite file lets one writer in at a time; Prefect's own client asks again too.
                if error.code != 503:
                    raise
                return None

        (value,) = wait_for(answered, what=f"an answer to {path}", seconds=60)
        return value

    def get(self, path):
        """What the API answers when it is asked for a JSON value."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/api{path}", timeout=60) as answer:
            return json.loads(answer.read())

    def deployment(self, name):
        """Id of a deployment `flow/name`."""
        return self.get(f"/deployments/name/{name}")["id"]

    def logged(self, run):
        """What the log of a run says; it reaches the server in batches, after the end of the run too."""
        filters = {"logs": {"flow_run_id": {"any_": [run]}}}
        return [entry["message"] for entry in self.post("/logs/filter", filters)]

    def submit(self, name, settings, *, after_seconds=0, **environment):
        """Id of a new run of deployment `flow/name`, with more in the environment of its process.

        Settings are a mapping, or the path of a file, as the nightly schedule gives it.
        """
        start = datetime.now(UTC) + timedelta(seconds=after_seconds)
        state = {"type": "SCHEDULED", "state_details": {"scheduled_time": start.isoformat()}}
        parameters = (
            {"settings": settings} if isinstance(settings, dict) else {"settings_file": str(settings)}
        )
        body = {"parameters": parameters, "state": state}
        if environment:
            body["job_variables"] = {"env": environment}
        return self.post(f"/deployments/{self.deployment(name)}/create_flow_run", body)["id"]

    def flow_runs(self, **filters):
        return self.post("/flow_runs/filter", {"flow_runs": filters} if filters else {})

    def state(self, run):
        """Name and message of the state of a run."""
        found = self.flow_runs(id={"any_": [run]})[0]
        return found["state"]["name"], found["state"]["type"], found["state"]["message"]

    def states(self, run):
        """Names of the states that a run went through."""
        return [state["name"] for state in self.get(f"/flow_run_states/?flow_run_id={run}")]

    def wait_for_tasks(self, run, *, count):
        """Wait until as many task runs of a run and its subflows are written down; more fail at once.

        The server writes them down some seconds after they ended.
        """

        def counted():
            subflows = self.flow_runs(parent_flow_run_id={"any_": [run]})
            runs = [run, *(each["id"] for each in subflows)]
            found = self.post("/task_runs/count", {"flow_runs": {"id": {"any_": runs}}})
            assert found <= count
            return found == count

        wait_for(counted, what=f"{count} task runs of {run}", seconds=60)

    def wait_until_running(self, run):
        wait_for(lambda: self.state(run)[1] == "RUNNING", what=f"the start of run {run}")

    def process(self, name):
        """The process that was started under a name."""
        return self._processes[name]

    def wait_for_end(self, run):
        """Name and message of the state in which a run ended."""

        def ended():
            name, kind, message = self.state(run)
            return (name, message) if kind in {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"} else None

        return wait_for(ended, what=f"the end of run {run}")


def documented_commands():
    """The commands of the page from nothing to a running schedule, without `factseg.toml` being written."""
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    block = re.search(r"From nothing to a running schedule.*?```bash\n(.*?)```", page, re.DOTALL)[1]
    return [shlex.split(line) for line in block.splitlines() if line.startswith("prefect")]


def documented_toml():
    """The settings file that the page shows, parsed."""
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    return tomllib.loads(re.search(r"`factseg.toml`.*?```toml\n(.*?)```", page, re.DOTALL)[1])


@contextmanager
def deployed(home, **environment):
    """A server, its pool, its deployments and a worker, by the five commands of the page."""
    server = Server(home, **environment)
    start, pool, deploy, worker, run = documented_commands()
    assert start == ["prefect", "server", "start"]
    assert run[:3] == ["prefect", "deployment", "run"]
    try:
        server.start_server()
        server.prefect(*pool[1:])
        server.prefect("--no-prompt", *deploy[1:])
        server.start("worker", *worker[1:])
        yield server
    finally:
        server.close()
