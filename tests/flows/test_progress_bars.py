"""Progress on the terminal: a bar with its pace and the time left; in a log file a line per finished piece."""

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FINISHED = "extract film.mp4: 400 frames 25.0 frames/s"
WORK = """
import time
from flows.cli_output import progress_bars
from pipeline import progress
with progress_bars():
    for done in range(0, 401, 20):
        progress.report("extract film.mp4", done=done, total=400, unit="frames", note="25.0 frames/s")
        time.sleep(0.1)
"""
"""Twenty steps in two seconds: half way there is a second left."""


def run(**streams):
    return subprocess.Popen([sys.executable, "-c", WORK], cwd=ROOT, **streams)


@pytest.mark.skipif(sys.platform == "win32", reason="terminals of Windows are none of POSIX")
def test_a_terminal_shows_a_bar_with_frames_pace_and_time_left(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    ours, theirs = pty.openpty()
    process = run(stdout=subprocess.PIPE, stderr=theirs)
    os.close(theirs)
    shown = read_to_the_end(ours)
    output, _ = process.communicate()
    assert process.returncode == 0, shown
    assert output == b""
    drawn = re.findall(
        r"extract film\.mp4 +\S+ +(\d+)/400 frames 25\.0 frames/s +(\d+):(\d\d)",
        re.sub(r"\x1b\[[0-9;?]*\w", "", shown),
    )
    left = {int(done): 60 * int(minutes) + int(seconds) for done, minutes, seconds in drawn}
    assert 400 in left
    # The remaining time is known long before the end, is of the right size on a busy machine too, and falls.
    halfway = [seconds for done, seconds in left.items() if 100 <= done <= 300]
    assert 1 <= max(halfway) <= 60
    assert left[400] == 0


def read_to_the_end(terminal):
    told = b""
    while True:
        try:
            chunk = os.read(terminal, 1 << 16)
        except OSError:
            # Linux tells so that nobody holds the other end any more.
            chunk = b""
        if not chunk:
            os.close(terminal)
            return told.decode()
        told += chunk


def test_a_log_file_gets_one_line_for_a_finished_piece_of_work(tmp_path):
    with (tmp_path / "log").open("w") as file:
        assert run(stdout=subprocess.DEVNULL, stderr=file).wait() == 0
    assert (tmp_path / "log").read_text().splitlines() == [FINISHED]
