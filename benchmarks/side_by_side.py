"""Trainings side by side: processes that each keep one device and take jobs one after the other."""

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from typing import TYPE_CHECKING, TypeVar

import torch

if TYPE_CHECKING:
    from multiprocessing.queues import Queue

Job = TypeVar("Job")
Result = TypeVar("Result")

_device = "auto"


def side_by_side(
    work: Callable[[Job, str], Result],
    jobs: Sequence[Job],
    *,
    processes: int,
    devices: Sequence[str],
    preload: Sequence[str],
) -> Iterator[tuple[Job, Future[Result]]]:
    """Each job with its future, as it ends.

    Args:
        work: Takes a job and the name of the device it is to use; of a module, because other processes import it.
        jobs: What to do, in this order.
        processes: How many at once; each uses one thread of a CPU.
        devices: Processes take them in turn.
        preload: Modules that are imported once for all processes; none may touch a GPU.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(preload))
    places = context.Queue()
    for index in range(processes):
        places.put(devices[index % len(devices)])
    with ProcessPoolExecutor(processes, mp_context=context, initializer=_start, initargs=(places,)) as pool:
        futures = {pool.submit(_on_my_device, work, job): job for job in jobs}
        for future in as_completed(futures):
            yield futures[future], future


def _start(devices: "Queue[str]") -> None:
    global _device  # noqa: PLW0603  (one device for all that this process will do)
    _device = devices.get()
    torch.set_num_threads(1)


def _on_my_device(work: Callable[[Job, str], Result], job: Job) -> Result:
    return work(job, _device)
