"""A limit on a flow run's time that holds even where its work cannot be interrupted.

Prefect ends a synchronous flow that is late only when Python runs again; a decoder or a kernel that hangs never
lets it. So another process watches: it notes the run as ``TimedOut`` and kills its process. What the run had
stored is kept, and the next run goes on from there.
"""

import logging
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from pipeline.errors import SettingsError

VARIABLE = "FACTSEG_TIME_LIMIT_SECONDS"
"""Environment variable that holds the limit of a flow run; without it, or with 0, there is none."""

NOTE_SECONDS = 60.0
"""How long noting ``TimedOut`` may hold up the kill, where the server is slow or gone."""

log = logging.getLogger(__name__)


def limit_of_environment() -> float:
    """Seconds a flow run may take; 0 for no limit.

    Raises:
        SettingsError: The variable holds something else than a number of seconds.
    """
    given = os.environ.get(VARIABLE, "0") or "0"
    try:
        seconds = float(given)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise SettingsError(
            f"{VARIABLE}={given!r} is no number of seconds. Give e.g. 3600, or 0 for no limit."
        )
    return seconds


@contextmanager
def time_limit(flow_run_id: str, *, seconds: float) -> Iterator[None]:
    """Kill this very process once the block has taken ``seconds``; 0 sets no limit.

    Args:
        flow_run_id: The flow run that ends as ``TimedOut`` then.
        seconds: Limit, by a clock that nobody sets.
    """
    if not seconds:
        yield
        return
    command = [sys.executable, "-m", "flows.time_limit", str(os.getpid()), str(seconds), flow_run_id]
    # The watcher notices by the end of its input that the block is over, or that this process is gone.
    watcher = subprocess.Popen(command, stdin=subprocess.PIPE)  # noqa: S603  (a fixed command, numbers and an id)
    try:
        yield
    finally:
        watcher.communicate()


def watch(pid: int, *, seconds: float, flow_run_id: str) -> bool:
    """Wait for the end of standard input; kill process ``pid`` where it does not come in time.

    Returns:
        Whether the limit was passed.
    """
    ended, _, _ = select.select([sys.stdin], [], [], seconds)
    if ended:
        return False
    message = f"It took longer than {seconds:g} s ({VARIABLE}) and was stopped. What it stored is kept: run it again."
    # First the state, so that the worker, which sees a killed process, does not call it a crash. But a server that is
    # gone must not let the process live.
    noting = threading.Thread(target=_try_to_note, args=(flow_run_id, message), daemon=True)
    try:
        noting.start()
        noting.join(NOTE_SECONDS)
    finally:
        os.kill(pid, signal.SIGKILL)
    return True


def _try_to_note(flow_run_id: str, message: str) -> None:
    try:
        _note_timed_out(flow_run_id, message)
    except Exception as error:  # noqa: BLE001  (whatever prevents the note, the limit holds)
        log.warning("Flow run %s could not be noted as TimedOut: %s", flow_run_id, error)


def _note_timed_out(flow_run_id: str, message: str) -> None:
    # Imported late: a run that ends in time never pays for it.
    from uuid import UUID

    from prefect.client.orchestration import get_client
    from prefect.client.schemas.objects import State, StateType

    state: State[None] = State(type=StateType.FAILED, name="TimedOut", message=message)
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(UUID(flow_run_id), state, force=True)


if __name__ == "__main__":
    watch(int(sys.argv[1]), seconds=float(sys.argv[2]), flow_run_id=sys.argv[3])
