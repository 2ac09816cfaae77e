"""Extraction over Ray: what is refused before anything starts, and a cluster of which a node is killed."""

import json
import subprocess
import sys
from functools import partial
from pathlib import Path

import cloudpickle
import numpy as np
import pytest

from flows import ray_cluster, stages
from flows.chain import PrefectRunner, call_flow
from flows.ray_cluster import anywhere
from flows.runner import DirectRunner
from pipeline.encode import write_h264
from pipeline.errors import SettingsError
from pipeline.settings import ExtractSettings
from tests.flows.conftest import ROOT

NAMESPACE = ["unshare", "--net", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child"]
"""A network, and processes, of one's own: Ray's end with the first of them."""

EXTRACTION = {"features": ("clip:stride=5",), "weights": "random", "batch_videos": 1}
OPTIONS = ("--features", "clip:stride=5", "--weights", "random", "--batch-videos", "1")


def over_ray(folder, **extraction):
    return ExtractSettings(
        store=folder / "store",
        videos=(folder,),
        extraction={**EXTRACTION, "runner": "ray", **extraction},
    )


@pytest.fixture
def videos(tmp_path):
    folder = tmp_path / "videos"
    folder.mkdir()
    rng = np.random.default_rng(1)
    for number in range(8):
        pictures = [rng.integers(0, 255, (64, 96, 3)).astype(np.uint8) for _ in range(30)]
        write_h264(folder / f"v{number}.mp4", pictures, width=96, height=64, fps=10)
    return folder


def test_without_a_server_that_all_reach_the_remedy_is_named(tmp_path, monkeypatch):
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    with pytest.raises(SettingsError, match=r"prefect server start.*PREFECT_API_URL=http"):
        call_flow("extract", over_ray(tmp_path))


def test_without_the_extra_the_pip_line_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(ray_cluster, "find_spec", lambda _: None)
    with pytest.raises(SettingsError, match=r"pip install 'factseg\[ray\]'"):
        call_flow("extract", over_ray(tmp_path))


def test_direct_and_ray_exclude_each_other(videos):
    with pytest.raises(SettingsError, match="Leave out --direct or --runner ray"):
        stages.extract(over_ray(videos), DirectRunner())


def test_a_share_that_no_machine_has_is_refused_with_what_they_have(monkeypatch):
    ray = pytest.importorskip("ray")
    nodes = [
        {"Alive": True, "Resources": {"CPU": 8.0}},
        {"Alive": True, "Resources": {"CPU": 2.0, "GPU": 1.0}},
        {"Alive": False, "Resources": {"CPU": 64.0, "GPU": 8.0}},
    ]
    monkeypatch.setattr(ray, "nodes", lambda: nodes)
    ray_cluster._check_share({"num_cpus": 2, "num_gpus": 0.5})
    with pytest.raises(SettingsError, match=r"wants 4 CPUs and 1 GPUs.*8 CPUs and 0 GPUs; 2 CPUs and 1 GPUs"):
        ray_cluster._check_share({"num_cpus": 4, "num_gpus": 1})


def test_what_goes_to_other_machines_has_absolute_paths_and_survives_the_way(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    settings = over_ray(Path("in"), i3d_rgb=Path("weights.pt"))
    step = partial(
        stages.extract_anywhere, extraction=settings.extraction, store=Path("store"), cache_gib=1.0
    )
    sent = cloudpickle.loads(cloudpickle.dumps(anywhere(step)))
    assert sent.func is stages.extract_anywhere
    assert sent.keywords["store"] == tmp_path / "store"
    assert sent.keywords["extraction"].i3d_rgb == tmp_path / "weights.pt"
    assert sent.keywords["extraction"].features == settings.extraction.features
    assert anywhere([[Path("a.mp4"), "s3://bucket/b.mp4"]]) == [[tmp_path / "a.mp4", "s3://bucket/b.mp4"]]
    cloudpickle.dumps(PrefectRunner._task("extract-features", step))


def files_of(store):
    return {path.relative_to(store): path.read_bytes() for path in (store / "features").rglob("*.parquet")}


@pytest.fixture
def namespace():
    """The command that runs others in namespaces of their own."""
    found = subprocess.run([*NAMESPACE, "ip", "link", "set", "lo", "up"], capture_output=True, check=False)
    if found.returncode:
        pytest.skip(f"a network namespace of one's own is not allowed here: {found.stderr.decode()}")
    return NAMESPACE


@pytest.mark.slow
@pytest.mark.ops
def test_a_node_killed_at_work_loses_nothing_and_a_deployment_uses_the_rest(
    videos, tmp_path_factory, tmp_path, factseg, namespace
):
    direct = factseg("extract", videos, *OPTIONS, "--store", tmp_path / "direct", "--direct", "--json")
    assert direct.returncode == 0, direct.stderr
    store = tmp_path / "store"
    # Ray's sockets lie in it, and their paths must be short.
    folder = tmp_path_factory.mktemp("ray")
    command = [*namespace, sys.executable, "-m", "tests.flows.ray_scene", folder, store, videos, *OPTIONS]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as scene:
        try:
            out, errors = scene.communicate(timeout=850)
        finally:
            # Its namespace, and so every process of Ray, ends with it.
            scene.kill()
    assert scene.returncode == 0, errors
    found = json.loads(out)
    assert found["code"] == 0, found["log"]
    assert found["killed"], "the second node was at work when it was killed"
    assert 2 <= found["done"] < 8
    listed = [(one["video"], one["status"]) for one in json.loads(found["out"])]
    assert [name for name, _ in listed] == [f"v{number}" for number in range(8)]
    # A node may die after it stored a video and before it said so: whoever takes over finds it.
    assert {status for _, status in listed} <= {"done", "skipped"}
    assert [status for _, status in listed].count("done") >= 7
    assert found["states"] == ["Completed"]
    assert found["tasks"] == ["Completed"] * 8
    assert files_of(store) == files_of(tmp_path / "direct")
    assert len(files_of(store)) == 8
    # The same over what is left of the cluster, started by a worker.
    by_deployment = found["deployment"]
    assert by_deployment["ended"] == ["Completed", "2 done, 0 skipped"], by_deployment["log"]
    # Each of its batches asked for the one GPU that a node says it has; more than that, no machine has.
    name, message = found["greedy"]["ended"]
    assert (name, "wants 1 CPUs and 2 GPUs of one machine" in message) == ("Failed", True), message
    assert "1 CPUs and 1 GPUs" in message
    features = files_of(tmp_path / "by-deployment")
    assert len(features) == 2
    assert features.items() <= files_of(store).items()
