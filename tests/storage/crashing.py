"""Writers that die or meet, run by ``test_faults.py`` as a process of its own; a JSON line on standard output.

Forking a warm process makes a round cost milliseconds instead of an import of Arrow. It is done here, not in the
test, because a process with threads must not fork under ``filterwarnings = error``.
"""

import json
import os
import random
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from storage.atomic import artefact_lock
from storage.errors import StorageError
from storage.features import read_features, write_features
from storage.folders import finish_folder, is_finished, read_manifest, start_folder
from storage.keys import file_digest
from storage.seal import is_parquet_whole
from storage.sealed_json import read_sealed_json, write_sealed_json
from tests.storage.samples import METADATA

STEPS, WIDTH = 4100, 8


def write(path, value, *, part_steps=None):
    """A feature file full of one number, of two parts and a rest."""
    rows = np.full((1025, WIDTH), value, np.float32)
    # Another value is another artefact: parts of one are never continued with the other.
    metadata = replace(METADATA, identity={"value": value})
    with write_features(
        path, width=WIDTH, metadata=metadata, packing="fast", part_steps=part_steps
    ) as writer:
        while writer.num_steps < STEPS:
            count = min(len(rows), STEPS - writer.num_steps)
            writer.append(np.arange(writer.num_steps, writer.num_steps + count) * 0.04, rows[:count])


def write_run(folder, value):
    """A folder of a run, its manifest last."""
    start_folder(folder)
    for name in ("a", "b"):
        (folder / name).write_text(str(value) * 20_000)
    finish_folder(folder, {"value": value})


def in_child(work):
    """Process id of a child that does the work and leaves."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return child


def kill_rounds(root, rounds, seed):
    """Kill a writer at a random moment, ``rounds`` times; how often the old value was seen, and the new."""
    luck = random.Random(seed)
    features, marker = root / "a.parquet", root / "facts.json"
    write(features, 0)
    write_sealed_json(marker, {"value": "0" * 30_000})
    started = time.perf_counter()
    write(root / "timed.parquet", 0)
    typical = time.perf_counter() - started
    seen = {"old": 0, "new": 0}
    value = 0
    for number in range(1, rounds + 1):
        folder = root / f"run-{number}"

        def work(number=number, folder=folder):
            with artefact_lock(features):
                write(features, number, part_steps=2048)
            write_sealed_json(marker, {"value": str(number % 10) * 30_000})
            write_run(folder, number)

        child = in_child(work)
        time.sleep(luck.uniform(0, 2.5 * typical))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        stored = read_features(features).feature
        assert stored.shape == (STEPS, WIDTH)
        assert is_parquet_whole(features)
        found = set(stored[:, 0].astype(int).tolist())
        assert found in ({value}, {number}), (found, value, number)
        seen["new" if found == {number} else "old"] += 1
        value = found.pop()
        assert len(set(read_sealed_json(marker)["value"])) == 1
        if is_finished(folder):
            files = read_manifest(folder)["files"]
            assert files == {name: file_digest(folder / name) for name in ("a", "b")}
    # The next run completes, whatever the last one left, and clears it away.
    with artefact_lock(features):
        write(features, -1, part_steps=2048)
    assert set(read_features(features).feature.ravel().tolist()) == {-1.0}
    for number in range(1, rounds + 1):
        if not is_finished(root / f"run-{number}"):
            write_run(root / f"run-{number}", number)
        assert read_manifest(root / f"run-{number}")["value"] == number
    left = [
        path.name for path in root.iterdir() if path.name.startswith(".a.parquet") and path.suffix != ".lock"
    ]
    return {**seen, "left": left}


def meeting_rounds(root, rounds):
    """Two writers want the same file at once, ``rounds`` times; how often the work was done."""
    done = 0
    for number in range(rounds):
        path, log = root / f"{number}.parquet", root / f"{number}.log"

        def work(path=path, log=log):
            with artefact_lock(path):
                if not path.exists():
                    write(path, os.getpid() % 1000)
                    with log.open("a") as file:
                        file.write(f"{os.getpid() % 1000}\n")

        children = [in_child(work), in_child(work)]
        codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        assert codes == [0, 0]
        makers = log.read_text().split()
        assert set(read_features(path).feature.ravel().tolist()) == {float(makers[0])}
        done += len(makers)
    return {"done": done}


def full_disk(root):
    """Write where no file may grow beyond 20 kB; what the writers say, and what is there afterwards."""
    import resource

    write(root / "small.parquet", 1)
    write_sealed_json(root / "facts.json", {"value": 1})
    before = {path.name: path.read_bytes() for path in root.iterdir()}
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
    said = []
    for work in (
        lambda: write(root / "small.parquet", 2),
        lambda: write(root / "new.parquet", 2),
        lambda: write_sealed_json(root / "facts.json", {"value": "2" * 30_000}),
    ):
        try:
            work()
        except StorageError as error:
            said.append(str(error))
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    after = {path.name: path.read_bytes() for path in root.iterdir()}
    return {"said": said, "same": before == after}


def main():
    pa.set_cpu_count(1)
    name, root, *numbers = sys.argv[1:]
    answer = {"kill": kill_rounds, "meet": meeting_rounds, "full": full_disk}[name](
        Path(root), *map(int, numbers)
    )
    sys.stdout.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
