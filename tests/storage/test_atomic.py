import errno
import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from storage.atomic import artefact_lock, atomic_path, write_json_atomically, write_text_atomically
from storage.errors import DiskFullError


def test_a_file_appears_with_its_whole_content(tmp_path):
    write_text_atomically(tmp_path / "deep" / "a.txt", "grün\n")
    assert (tmp_path / "deep" / "a.txt").read_bytes() == "grün\n".encode()


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old")

    def write_half():
        with atomic_path(target) as scratch:
            scratch.write_text("new but half")
            raise RuntimeError("halfway")

    with pytest.raises(RuntimeError, match="halfway"):
        write_half()
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_json_refuses_what_json_cannot_say(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json_atomically(tmp_path / "a.json", {"loss": float("nan")})
    assert not (tmp_path / "a.json").exists()


def test_a_new_file_follows_the_umask_like_any_other(tmp_path):
    write_text_atomically(tmp_path / "ours", "")
    (tmp_path / "theirs").write_text("")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "theirs").stat().st_mode


def test_a_writer_killed_at_any_moment_leaves_the_old_content_or_the_new(tmp_path):
    target = tmp_path / "value"
    target.write_text("0" * 100_000)
    script = textwrap.dedent(
        """
        import sys
        from pathlib import Path
        from storage.atomic import write_text_atomically
        for digit in "123456789" * 1000:
            write_text_atomically(Path(sys.argv[1]), digit * 100_000)
        """
    )
    for delay in (0.15, 0.2, 0.25, 0.3):
        process = subprocess.Popen([sys.executable, "-c", script, str(target)])
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.wait()
        content = target.read_text()
        assert len(content) == 100_000
        assert len(set(content)) == 1


def test_another_process_cannot_take_a_lock_that_is_held(tmp_path):
    target = tmp_path / "a.parquet"
    script = textwrap.dedent(
        """
        import sys
        from pathlib import Path
        from storage.atomic import artefact_lock
        try:
            with artefact_lock(Path(sys.argv[1]), timeout_seconds=0.05):
                pass
        except TimeoutError:
            sys.exit(7)
        """
    )
    command = [sys.executable, "-c", script, str(target)]
    with artefact_lock(target):
        assert subprocess.run(command, check=False).returncode == 7
    assert subprocess.run(command, check=False).returncode == 0


def test_parts_of_a_killed_writer_are_gone_once_the_lock_is_held(tmp_path):
    target, other = tmp_path / "a.parquet", tmp_path / "b.parquet"
    for path in (target, other):
        with atomic_path(path) as scratch:
            scratch.write_text("half")
            # What a kill leaves behind: the scratch file under its own name.
            scratch.with_name(f".{path.name}.killed.part").write_text("half")
    with artefact_lock(target):
        parts = {path.name for path in tmp_path.glob("*.part")} | {
            path.name for path in tmp_path.glob(".*.part")
        }
    assert parts == {".b.parquet.killed.part"}
    assert target.read_text() == "half"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_known_by_whatever_error_a_library_makes_of_it(tmp_path, number):
    with (
        pytest.raises(DiskFullError, match=r"no room to write .*new"),
        atomic_path(tmp_path / "new"),
    ):
        # As safetensors says it.
        raise ValueError(f"Error while serializing: I/O error: {os.strerror(number)} (os error {number})")
    with pytest.raises(ValueError, match="os error 5"), atomic_path(tmp_path / "new"):
        raise ValueError("I/O error: Input/output error (os error 5)")
    assert not list(tmp_path.iterdir())
