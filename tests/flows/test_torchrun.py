"""One command by several processes that torchrun starts: one flow, one voice."""

import json
import os
import sqlite3
import subprocess
import sys

import pytest

from flows.invoke import execute
from pipeline.errors import SettingsError
from pipeline.settings import ExtractSettings
from tests.flows.conftest import ROOT
from tests.pipeline.tiny import write_tiny_dataset


def test_processes_that_would_each_do_all_of_a_stage_are_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(SettingsError, match=r"this is 'extract'\. Start it without torchrun"):
        execute("extract", ExtractSettings(store=tmp_path, videos=(tmp_path,)), direct=True)


@pytest.mark.slow
def test_torchrun_starts_the_same_command_with_one_flow_and_one_voice(tmp_path):
    dataset = write_tiny_dataset(tmp_path / "data")
    store, home = tmp_path / "store", tmp_path / "prefect"
    dataset.fill(store)
    settings = dataset.settings(store, model="fact", epochs=2, batch_size=2)
    # JSON is YAML too.
    file = tmp_path / "settings.yaml"
    file.write_text(settings.model_dump_json(exclude_none=True))
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"),
        *("--no-python", sys.executable, "-c", "from flows.cli import main; main()"),
        *("train", "--settings", file, "--store", store, "--json"),
    ]
    environment = {**os.environ, "PREFECT_HOME": str(home)}
    ran = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=800, check=False
    )
    assert ran.returncode == 0, ran.stderr
    printed = json.loads(ran.stdout)
    assert (printed["trained"], printed["epochs"]) == (True, 2)
    manifest = json.loads((store / "runs" / printed["run"] / "manifest.json").read_text())
    assert manifest["processes"] == 2
    with sqlite3.connect(home / "prefect.db") as database:
        states = database.execute("select state_name from flow_run").fetchall()
    database.close()
    assert states == [("Completed",)]
