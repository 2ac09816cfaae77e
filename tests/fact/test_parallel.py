"""Two processes that train one model by torch's distributed data parallel."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from fact.blocks import FACT
from fact.loss import MatchCriterion, SegmentTarget

ROOT = Path(__file__).resolve().parents[2]

WORKER = """
import sys
import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel
from fact.blocks import FACT
from fact.loss import MatchCriterion, SegmentTarget

torch.set_num_threads(1)
folder, rank = sys.argv[1], int(sys.argv[2])
distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
job = torch.load(f"{folder}/job.pt", weights_only=True)
torch.manual_seed(rank)  # Different weights, which the wrapper makes those of rank 0.
model = FACT(job["config"], 5, 4).double()
if rank == 0:
    model.load_state_dict(job["weights"])
criterion = MatchCriterion(job["config"], 4)
wrapped = DistributedDataParallel(model)
for features, labels in zip(job["features"][rank::2], job["labels"][rank::2], strict=True):
    model.zero_grad()
    criterion(wrapped(features), SegmentTarget.from_labels(labels, num_classes=4)).total.backward()
torch.save({name: p.grad for name, p in model.named_parameters()}, f"{folder}/gradients{rank}.pt")
distributed.destroy_process_group()
"""


@pytest.mark.slow
def test_gradients_are_the_mean_over_the_processes_videos(small_config, tmp_path):
    torch.manual_seed(7)
    config = small_config(FACT={"block": "iuUU"})
    model = FACT(config, 5, 4).double()
    # Two rounds: the second shows that the first left nothing unfinished. Videos of different lengths.
    features = [torch.randn(steps, 5, dtype=torch.float64) for steps in (12, 19, 31, 8)]
    labels = [torch.arange(len(rows)) // 5 % 4 for rows in features]
    job = {"config": config, "weights": model.state_dict(), "features": features, "labels": labels}
    torch.save(job, tmp_path / "job.pt")
    command = [sys.executable, "-c", WORKER, str(tmp_path)]
    processes = [subprocess.Popen([*command, str(rank)], cwd=ROOT) for rank in range(2)]
    assert [process.wait() for process in processes] == [0, 0]
    criterion = MatchCriterion(config, 4)
    for rows, ids in zip(features[2:], labels[2:], strict=True):
        (criterion(model(rows), SegmentTarget.from_labels(ids, num_classes=4)).total / 2).backward()
    for rank in range(2):
        found = torch.load(tmp_path / f"gradients{rank}.pt", weights_only=True)
        for name, parameter in model.named_parameters():
            torch.testing.assert_close(found[name], parameter.grad, atol=1e-9, rtol=1e-9)
