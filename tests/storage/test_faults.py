import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="forks a warm process")


def run(*words):
    """What ``crashing.py`` reports."""
    command = [sys.executable, "-m", "tests.storage.crashing", *map(str, words)]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


@pytest.mark.parametrize("rounds", [20, pytest.param(200, marks=pytest.mark.slow)])
def test_a_writer_killed_at_any_moment_leaves_the_old_artefact_or_the_new(tmp_path, rounds):
    seen = run("kill", tmp_path, rounds, 0)
    assert seen["old"] + seen["new"] == rounds
    # Neither always too early nor always too late, or the test would show nothing.
    assert seen["old"] > 0
    assert seen["left"] == []


def test_of_two_writers_at_once_one_does_the_work(tmp_path):
    assert run("meet", tmp_path, 50)["done"] == 50


def test_a_full_disk_is_named_with_the_remedy_and_leaves_what_was_there(tmp_path):
    found = run("full", tmp_path)
    assert len(found["said"]) == 3
    for sentence, name in zip(found["said"], ("small.parquet", "new.parquet", "facts.json"), strict=True):
        assert name in sentence
        assert "Free some space" in sentence
    assert found["same"]
