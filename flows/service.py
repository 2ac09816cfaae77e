"""A program that runs beside ours until it is told to stop."""

import os
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import SettingsError

START_SECONDS = 180.0
"""How long a service may take until it answers, on a busy machine."""

STOP_SECONDS = 20.0
"""How long it may take to stop before it is killed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Service:
    """A running program and where it logs."""

    name: str
    process: "subprocess.Popen[bytes]"
    log: Path

    @classmethod
    def start(
        cls,
        name: str,
        command: Sequence[str],
        *,
        log: Path,
        environment: Mapping[str, str],
        user: str | None = None,
        cwd: Path | None = None,
    ) -> "Service":
        """Start a program in a session of its own, so that Ctrl-C reaches ours alone and stops them in order."""
        with log.open("ab") as output:
            process = subprocess.Popen(  # noqa: S603  (our own commands)
                list(command),
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                user=user,
                cwd=cwd,
            )
        return cls(name=name, process=process, log=log)

    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self.process.poll() is None

    def stop(self) -> None:
        """Ask it to stop, and kill it where it does not."""
        if self.is_running():
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(timeout=STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        # What it started and did not take along.
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)


def wait_until(service: Service, answers: Callable[[], bool]) -> None:
    """Wait until a service answers.

    Raises:
        SettingsError: It ended, or did not answer in time; the message names its log.
    """
    deadline = time.monotonic() + START_SECONDS
    with ExitStack() as unless_up:
        unless_up.callback(service.stop)
        while not answers():
            if not service.is_running() or time.monotonic() > deadline:
                raise SettingsError(f"{service.name} did not come up. Its log says why: {service.log}.")
            time.sleep(0.3)
        unless_up.pop_all()


def answers_http(url: str) -> bool:
    """Whether a server on this machine answers."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310  (our own address)
            return bool(answer.status == 200)
    except OSError:
        return False


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
