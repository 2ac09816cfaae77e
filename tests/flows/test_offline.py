"""The chain on the embedded Prefect server, with every connection beyond this machine refused."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.flows.conftest import ROOT, dataset_options

GUARD = '''
"""Imported by every Python process of the test before anything else: refuses to leave this machine."""
import ipaddress
import os
import sys


def _is_here(host):
    if host in (None, "", "localhost"):
        return True
    try:
        return ipaddress.ip_address(str(host).partition("%")[0]).is_loopback
    except ValueError:
        return False


def _guard(event, arguments):
    if event == "socket.getaddrinfo":
        host = arguments[0]
        # Binding to every address of this machine is not a connection.
        here = _is_here(host.decode() if isinstance(host, bytes) else host) or str(host) in ("0.0.0.0", "::")
    elif event in ("socket.connect", "socket.sendto"):
        address = arguments[1]
        here = not isinstance(address, tuple) or _is_here(address[0])
    else:
        return
    if not here:
        with open(os.environ["REFUSED_LOG"], "a") as log:
            log.write(f"{event} {arguments} {sys.argv}\\n")
        raise PermissionError(f"{event}: nothing beyond this machine is to be reached")


sys.addaudithook(_guard)
'''


@pytest.fixture
def guarded(tmp_path, factseg):
    """``factseg`` in a process, with its children, that cannot reach beyond this machine."""
    (tmp_path / "guard").mkdir()
    (tmp_path / "guard" / "sitecustomize.py").write_text(GUARD)
    log = tmp_path / "refused.log"
    path = os.pathsep.join([str(tmp_path / "guard"), str(ROOT), os.environ.get("PYTHONPATH", "")])

    def run(*arguments):
        return factseg(*arguments, PYTHONPATH=path, REFUSED_LOG=str(log)), (
            log.read_text() if log.exists() else ""
        )

    return run


@pytest.mark.usefixtures("guarded")
def test_the_guard_refuses(tmp_path):
    environment = {"PYTHONPATH": str(tmp_path / "guard"), "REFUSED_LOG": str(tmp_path / "refused.log")}
    script = "import socket; socket.create_connection(('192.0.2.1', 9), timeout=1)"
    ran = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "PermissionError" in ran.stderr
    assert "192.0.2.1" in (tmp_path / "refused.log").read_text()


@pytest.mark.slow
def test_the_chain_runs_as_flows_and_asks_nothing_of_the_network(tmp_path, dataset, guarded):
    store = tmp_path / "store"
    ran, refused = guarded("run", *dataset_options(dataset), "--store", store, "--json")
    assert ran.returncode == 0, ran.stderr
    assert refused == ""
    first = json.loads(ran.stdout)
    assert first["train"]["trained"]
    assert Path(first["evaluate"]["report"]).is_file()

    again, refused = guarded("run", *dataset_options(dataset), "--store", store, "--json")
    second = json.loads(again.stdout)
    assert (second["train"]["trained"], second["evaluate"]["evaluated"], refused) == (False, False, "")
    assert second["train"]["run"] == first["train"]["run"]
    assert "3 skipped" in again.stderr

    segmented, refused = guarded("segment", dataset / "videos" / "c.mp4", "--store", store, "--json")
    assert (segmented.returncode, refused) == (0, "")
    assert json.loads(segmented.stdout)[0]["segments"]


@pytest.mark.slow
def test_flows_and_plain_functions_give_the_same_segments(trained, dataset, factseg):
    store, _ = trained
    video = dataset / "videos" / "b.mp4"
    flow = factseg("segment", video, "--store", store, "--json")
    direct = factseg("segment", video, "--store", store, "--json", "--direct")
    assert flow.returncode == direct.returncode == 0
    assert json.loads(flow.stdout) == json.loads(direct.stdout)


@pytest.mark.slow
def test_a_partly_failed_chain_goes_on_and_says_what_failed(tmp_path, dataset, factseg):
    broken = tmp_path / "data"
    shutil.copytree(dataset, broken)
    (broken / "labels" / "b.txt").unlink()
    video = broken / "videos" / "a.mp4"
    (broken / "videos" / "d.mp4").write_bytes(video.read_bytes()[:1500])
    # One training video is left, fewer than the recipe's batch of two.
    options = [*dataset_options(broken), "--batch-size", "1", "--store", tmp_path / "store", "--json"]
    ran = factseg("run", *options)
    assert ran.returncode == 1
    assert "b.txt" in ran.stderr
    assert "failed: d: " in ran.stderr
    assert "full-pipeline: 2 of 4 failed" in ran.stderr
    assert json.loads(ran.stdout)["evaluate"]["champion"] == 1
    assert not list((tmp_path / "store").rglob("*.part"))
