"""`factseg watch` as its users run it: several processes on one folder, one of them killed in the middle."""

import json
import os
import shutil
import signal
import subprocess
import sys

import pytest

from storage.store import Store
from tests.flows.conftest import ROOT
from tests.flows.server import wait_for

pytestmark = pytest.mark.slow


class Watching:
    """`factseg watch` as a process."""

    def __init__(self, folder, store, out, log, *options, home):
        self.log = log
        command = [sys.executable, "-c", "from flows.cli import main; main()", "watch", folder]
        command += ["--out", out, "--store", store, "--settle-seconds", "1", "--json", *options]
        with log.open("w") as errors:
            self.process = subprocess.Popen(
                list(map(str, command)),
                cwd=ROOT,
                env={**os.environ, "PREFECT_HOME": str(home)},
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )

    def segmented(self):
        """How many videos it said it segmented."""
        return self.log.read_text().count(" is segmented: ")

    def ended(self):
        """Video and status of what it dealt with, once it came to its last look."""
        out, _ = self.process.communicate(timeout=600)
        assert self.process.returncode == 0, self.log.read_text()
        return [(outcome["video"], outcome["status"]) for outcome in json.loads(out)]

    def close(self):
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def world(trained, dataset, tmp_path):
    """A copy of the trained store, a folder, and what puts one more video of its own into it."""
    shutil.copytree(trained[0], tmp_path / "store")
    folder = tmp_path / "in"
    folder.mkdir()
    content = (dataset / "videos" / "a.mp4").read_bytes()

    def one_more():
        number = len(list(folder.iterdir()))
        # The same pictures to look at, but a video of its own by its content.
        (folder / f"v{number}.mp4").write_bytes(
            content + (8 + number).to_bytes(4, "big") + b"free" + bytes(number)
        )

    return folder, Store(tmp_path / "store"), one_more


def states(folder):
    """What is in a folder: names, contents and dates."""
    return {
        path.name: (path.read_bytes(), path.stat().st_mtime_ns, path.stat().st_ino)
        for path in folder.iterdir()
    }


def test_watchers_of_one_folder_segment_each_video_once_though_one_is_killed(
    world, tmp_path, prefect_home, request
):
    folder, store, one_more = world
    out = tmp_path / "out"

    def start(name, *options):
        watching = Watching(folder, store.root, out, tmp_path / f"{name}.log", *options, home=prefect_home)
        request.addfinalizer(watching.close)
        return watching

    def predictions():
        return {path.name: path.stat().st_ino for path in store.root.glob("predictions/*.parquet")}

    before = predictions()
    for _ in range(8):
        one_more()
    killed = start("killed", "--direct")
    wait_for(lambda: len(predictions()) > len(before), what="the first segments")
    killed.process.send_signal(signal.SIGKILL)
    killed.process.wait()
    made = predictions()
    assert len(before) < len(made) < len(before) + 8, "it was killed in the middle"
    assert not out.exists()

    # A look without a video costs no more than the pause: some 60 s each, and the work.
    by_flow = start("by-flow", "--poll-seconds", "0.2", "--looks", "300")
    directly = start("directly", "--poll-seconds", "0.7", "--looks", "85", "--direct")
    put = states(folder)
    while not (by_flow.segmented() and directly.segmented()) and len(put) < 40:
        seen = by_flow.segmented() + directly.segmented()
        one_more()
        put = states(folder)
        wait_for(lambda seen=seen: by_flow.segmented() + directly.segmented() > seen, what="one more")
    both = [by_flow.ended(), directly.ended()]
    assert all(both), "both took part"
    dealt_with = dict(both[0] + both[1])
    assert sorted(name for name, _ in both[0] + both[1]) == sorted(name.removesuffix(".mp4") for name in put)
    # Segments that the killed one had stored were not made again.
    assert list(dealt_with.values()).count("skipped") == len(made) - len(before)
    assert set(dealt_with.values()) == {"done", "skipped"}
    assert made.items() <= predictions().items()
    assert len(predictions()) == len(before) + len(put)
    assert {path.name for path in out.iterdir()} == {
        f"{name}.segments.{kind}" for name in put for kind in ("json", "csv", "vtt", "html")
    }
    assert states(folder) == put

    written = states(out)
    again = start("again", "--poll-seconds", "0.5", "--looks", "5", "--direct")
    assert again.ended() == []
    assert states(out) == written
