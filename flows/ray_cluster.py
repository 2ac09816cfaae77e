"""Steps spread over the machines of a Ray cluster, as Prefect tasks. Ray is imported only when it is asked for.

Where a machine is lost, Ray gives its tasks to another one. Nothing is lost with it: what a video's features were
before, the store has, and nothing in it is half-written.
"""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from prefect.settings import PREFECT_API_URL
from prefect.task_runners import TaskRunner

from pipeline.cluster import RayCluster
from pipeline.errors import SettingsError
from pipeline.settings_base import StrictSettings

_LOST_MACHINES = 10
"""How often a task may lose its machine before it counts as broken; spot machines go in numbers."""


def check_ray() -> None:
    """Whether steps can go over Ray at all, from what is here.

    Raises:
        SettingsError: The extra is not installed, or there is no server that the other machines could reach.
    """
    if find_spec("prefect_ray") is None or find_spec("ray") is None:
        raise SettingsError(
            "--runner ray needs Ray, which is not installed here. Install it, here and on every machine of the "
            "cluster: pip install 'factseg[ray]'"
        )
    if not PREFECT_API_URL.value():
        raise SettingsError(
            "--runner ray needs a Prefect server that every machine of the cluster reaches, and PREFECT_API_URL names "
            "none; the embedded server serves this process alone. Start one with `prefect server start --host "
            "ADDRESS` and set PREFECT_API_URL=http://ADDRESS:4200/api."
        )


@contextmanager
def ray_tasks(cluster: RayCluster) -> Iterator[TaskRunner[Any]]:
    """A task runner that gives each task its share of some machine of the cluster.

    Raises:
        SettingsError: ``check_ray``'s reasons, no cluster answers, or no machine has what a task asks for.
    """
    check_ray()
    from prefect_ray.context import remote_options
    from prefect_ray.task_runners import RayTaskRunner
    from ray.exceptions import AuthenticationError

    # A cluster of one's own, where there is no other, needs no page to look at it.
    options: dict[str, Any] = (
        {"address": cluster.address} if cluster.address else {"include_dashboard": False}
    )
    runner: TaskRunner[Any] = RayTaskRunner(
        address=options.pop("address", None), init_kwargs={"log_to_driver": False, **options}
    )
    try:
        runner.__enter__()
    except (ConnectionError, RuntimeError, AuthenticationError) as error:
        raise SettingsError(
            f"No Ray cluster can be used at {cluster.address or 'the default address'}: "
            f"{' '.join(str(error).split())} Start one with `ray start --head`, give its HOST:6379 as --ray-address, "
            "and its RAY_AUTH_TOKEN in the environment if it asks for one."
        ) from error
    share = {"num_cpus": cluster.cpus, "num_gpus": cluster.gpus}
    try:
        _check_share(share)
        # Ray tells of lost machines on standard output, which is for data.
        with redirect_stdout(sys.stderr), remote_options(**share, max_retries=_LOST_MACHINES):
            yield runner
    finally:
        runner.__exit__(None, None, None)


def _check_share(share: Mapping[str, float]) -> None:
    """Refuse what no machine has: Ray would wait for it for ever."""
    import ray

    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    names = {"num_cpus": "CPU", "num_gpus": "GPU"}
    if any(all(has.get(names[key], 0) >= wanted for key, wanted in share.items()) for has in machines):
        return
    found = "; ".join(f"{has.get('CPU', 0):g} CPUs and {has.get('GPU', 0):g} GPUs" for has in machines)
    raise SettingsError(
        f"A task wants {share['num_cpus']:g} CPUs and {share['num_gpus']:g} GPUs of one machine, but those of the "
        f"cluster have {found or 'nothing'}. Lower --ray-cpus or --ray-gpus, or add a machine."
    )


def anywhere(given: Any) -> Any:  # noqa: ANN401  (any step, its arguments, and what is in them)
    """The same step or argument with absolute paths: other machines work in other folders."""
    if isinstance(given, Path):
        return given.absolute()
    if isinstance(given, StrictSettings):
        return given.model_copy(update={name: anywhere(value) for name, value in given})
    if isinstance(given, (tuple, list)):
        return type(given)(anywhere(value) for value in given)
    if isinstance(given, partial):
        named = {name: anywhere(value) for name, value in given.keywords.items()}
        return partial(given.func, *anywhere(given.args), **named)
    return given
