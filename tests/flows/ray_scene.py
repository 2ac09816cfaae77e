"""A Ray cluster of two nodes, of which one is killed while it works; run in namespaces of its own.

Prints one JSON line of what happened. It is the first process of its namespace: whatever it started ends with it.
"""

import json
import os
import secrets
import signal
import subprocess
import sys
from pathlib import Path

from tests.flows.server import deployed, free_port, wait_for


class Cluster:
    """Ray nodes with a CPU each, on this machine; the first says it has a GPU."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._port = free_port()
        self._nodes = []
        self.address = f"127.0.0.1:{self._port}"

    def add_node(self, name):
        """Start a node with a CPU and a resource of its own; wait until it is part of the cluster."""
        where = [f"--address={self.address}", "--num-gpus=0"]
        if not self._nodes:
            where = [
                *("--head", f"--port={self._port}", "--node-ip-address=127.0.0.1", "--num-gpus=1"),
                *("--include-dashboard=false", f"--temp-dir={self._folder}"),
            ]
        log = self._folder / f"{name}.log"
        options = ["--num-cpus=1", f'--resources={{"{name}": 1}}', "--block"]
        with log.open("w") as out:
            node = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "ray.scripts.scripts",
                    "start",
                    *where,
                    *options,
                    "--object-store-memory=100000000",
                ],
                stdout=out,
                stderr=out,
            )
        self._nodes.append(node)

        def is_started():
            assert node.poll() is None, log.read_text()
            return "Ray runtime started" in log.read_text()

        wait_for(is_started, what=f"node {name}")
        return node


def family(pid):
    """Ids of a process and all its descendants, the eldest first."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
    found = [pid]
    for member in found:
        found += [child for child, parent in parents.items() if parent == member]
    return found


def title(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def at_work(node):
    """What the workers of a node are doing."""
    return [name for pid in family(node.pid) if (name := title(pid)).startswith("ray::extract")]


def extract_and_kill(cluster, second, server, arguments, *, store):
    """Start `factseg extract` over the cluster and kill the second node in the middle of its work."""
    command = [sys.executable, "-c", "from flows.cli import main; main()", "extract", *arguments]
    command += ["--store", str(store), "--runner", "ray", "--ray-address", cluster.address, "--json"]
    log = store.with_suffix(".log")
    with log.open("w") as err:
        flow = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=err, env=server.environment, text=True
        )

    def in_the_middle():
        assert flow.poll() is None, log.read_text()
        return len(list(store.rglob("features/**/*.parquet"))) >= 2 and at_work(second)

    doing = wait_for(in_the_middle, what="work on the second node", seconds=800)
    done = len(list(store.rglob("features/**/*.parquet")))
    victims = family(second.pid)
    for pid in victims:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    out, _ = flow.communicate(timeout=800)
    return {"out": out, "log": log.read_text(), "code": flow.returncode, "killed": doing, "done": done}


def extract_by_deployment(cluster, server, videos, *, store, gpus):
    """Extract two videos over the cluster by a run of the deployment, each with GPUs; how it ended, and its log."""
    settings = {
        "videos": [str(videos / name) for name in ("v0.mp4", "v1.mp4")],
        "store": str(store.with_name("by-deployment")),
        "extraction": {
            "features": ["clip:stride=5"],
            "weights": "random",
            "batch_videos": 1,
            "runner": "ray",
            "ray_address": cluster.address,
            "ray_gpus": gpus,
        },
    }
    # Nobody made such a limit: a worker of Ray that took it from the flow's environment would fail.
    run = server.submit("extract/extract", settings, FACTSEG_GPU_LIMIT="of-nobody")
    name, message = server.wait_for_end(run)
    return {"ended": [name, message], "log": server.logged(run)}


def main(folder, store, arguments):
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    os.environ |= {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_USAGE_STATS_ENABLED": "0",
        # The machine's memory belongs to others too: Ray must not kill for it.
        "RAY_memory_monitor_refresh_ms": "0",
    }
    (folder / "prefect").mkdir()
    with deployed(folder / "prefect") as server:
        cluster = Cluster(folder)
        cluster.add_node("first")
        second = cluster.add_node("second")
        found = extract_and_kill(cluster, second, server, arguments, store=store)
        runs = server.flow_runs(state={"type": {"any_": ["COMPLETED", "FAILED", "CRASHED", "RUNNING"]}})
        found["states"] = [run["state"]["name"] for run in runs]
        found["tasks"] = [run["state_name"] for run in server.post("/task_runs/filter", {})]
        for name, gpus in (("deployment", 1), ("greedy", 2)):
            found[name] = extract_by_deployment(cluster, server, Path(arguments[0]), store=store, gpus=gpus)
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
