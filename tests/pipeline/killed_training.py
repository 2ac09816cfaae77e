"""Trains in children that are killed, in a process of its own: one import, many cheap forks.

Prints one JSON object: digests of the weights and the curves of an undisturbed run and of every killed one.
"""

import json
import os
import random
import signal
import sys
import time
import traceback
from functools import partial
from pathlib import Path

import torch

# The first step of an optimiser imports this: once here, not in every child.
import torch._dynamo

from pipeline.run_files import CURVES_FILE
from pipeline.settings import RunSettings
from pipeline.train import train
from pipeline.train_plan import plan_run
from storage.keys import file_digest
from storage.store import Store

KILLS = 6


def start(settings, *, before_training=None):
    """Process id of a child that trains."""
    pid = os.fork()
    if pid:
        return pid
    try:
        if before_training:
            before_training()
        train(settings)
        os._exit(0)
    except BaseException:  # noqa: BLE001  (the child must not return into the parent's code)
        traceback.print_exc()
        os._exit(3)


def wait(pid):
    """How the child ended: its exit code, or minus the signal that killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def killed_at_random(settings, *, longest_seconds, rng):
    """Kill the training again and again, then let it end; how often it was killed."""
    kills = 0
    while kills < KILLS:
        pid = start(settings)
        time.sleep(rng.uniform(0, longest_seconds))
        os.kill(pid, signal.SIGKILL)
        if ended := wait(pid):
            assert ended == -signal.SIGKILL, ended
        else:
            return kills
        kills += 1
    assert wait(start(settings)) == 0
    return kills


def killed_at_renames(settings):
    """Every child dies around a rename, the moment that makes a file appear; how many died.

    Each two live one rename longer than the two before them, so that the last files are reached too.
    """
    kills = 0
    while ended := wait(
        start(settings, before_training=partial(die_at_rename, 1 + kills // 2, first=kills % 2))
    ):
        assert ended == -signal.SIGKILL, ended
        kills += 1
    return kills


def die_at_rename(number, *, first):
    """Die right after this rename, or right before it."""
    renamed = 0
    replace = Path.replace

    def replace_or_die(scratch, target):
        nonlocal renamed
        renamed += 1
        if renamed == number and first:
            os.kill(os.getpid(), signal.SIGKILL)
        replace(scratch, target)
        if renamed == number:
            os.kill(os.getpid(), signal.SIGKILL)

    Path.replace = replace_or_die


def digests(settings):
    """What the finished run is made of."""
    (folder,) = (path for path in Store(settings.store).runs.iterdir() if path.is_dir())
    return [file_digest(folder / name) for name in ("model.safetensors", CURVES_FILE)]


def main():
    torch.set_num_threads(1)
    given = json.loads(sys.argv[1])
    calm, *stormy = (RunSettings(**{**given, "store": store}) for store in sys.argv[2:])
    plan_run(calm, store=Store(calm.store))  # what it imports, every child has
    began = time.monotonic()
    assert wait(start(calm)) == 0
    seconds = time.monotonic() - began
    rng = random.Random(0)
    kills = [killed_at_random(one, longest_seconds=seconds, rng=rng) for one in stormy[:-1]]
    kills.append(killed_at_renames(stormy[-1]))
    sys.stdout.write(
        json.dumps(
            {
                "calm": digests(calm),
                "killed": [digests(one) for one in stormy],
                "kills": kills,
                "seconds": seconds,
            }
        )
    )


if __name__ == "__main__":
    main()
