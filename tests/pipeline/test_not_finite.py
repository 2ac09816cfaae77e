"""Numbers that are not finite end a training before they reach the weights, and the videos are named."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import pipeline.dataset
from fact.loss import MatchCriterion
from pipeline.errors import DatasetError, TrainingError
from pipeline.parallel import Team
from pipeline.train import train
from pipeline.train_loop import TrainingLoop
from storage.folders import MANIFEST
from tests.pipeline.tiny import RECIPE, TRAIN

pytestmark = pytest.mark.usefixtures("single_thread")


@pytest.fixture
def steep(monkeypatch):
    """From the second epoch on the loss is finite and its gradient is not: the slope of a square root at 0."""
    score, step, taken = MatchCriterion.score, TrainingLoop._step, []

    def with_root(self, output, target, match):
        losses = score(self, output, target, match)
        if len(taken) < 3:
            return losses
        return replace(losses, total=losses.total + (0 * output.final.frame_log_probs.sum()).sqrt())

    monkeypatch.setattr(MatchCriterion, "score", with_root)
    monkeypatch.setattr(TrainingLoop, "_step", lambda *args, **how: taken.append(1) or step(*args, **how))


@pytest.fixture
def loops(monkeypatch):
    """The loops that were run."""
    found, run = [], TrainingLoop.run

    def remember(self):
        found.append(self)
        return run(self)

    monkeypatch.setattr(TrainingLoop, "run", remember)
    return found


@pytest.mark.usefixtures("steep")
@pytest.mark.parametrize("clipping", ["", "clip_grad_norm: 0\n"])
@pytest.mark.parametrize(
    "how", [{}, {"accumulate": 2, "batch_size": 1}, {"precision": "bfloat16"}, {"graphs": True}]
)
def test_a_gradient_that_is_not_finite_reaches_no_weight(tiny, own_store, loops, clipping, how):
    recipe = Path(own_store) / "recipe.yaml"
    recipe.write_text(RECIPE + clipping)
    with pytest.raises(TrainingError) as caught:
        train(tiny.settings(own_store, recipe=str(recipe), epochs=5, ema=0.5, **how))
    videos, _, reason = str(caught.value).partition(": ")
    assert set(videos.split(", ")) <= set(TRAIN)
    assert reason.startswith("the gradient became nan. Lower --learning-rate")
    state = loops[0]._state
    kept = [*state.network.state_dict().values(), *state.average.state_dict().values()]
    kept += [slot for slots in state.optimizer.state.values() for slot in slots.values()]
    assert all(tensor.isfinite().all() for tensor in kept)
    (checkpoint,) = (Path(own_store) / "checkpoints").glob("*.safetensors")
    assert str(checkpoint) in reason
    assert all(tensor.isfinite().all() for tensor in load_file(checkpoint).values())


@pytest.mark.usefixtures("steep")
def test_before_the_first_checkpoint_none_is_written_and_none_is_promised(tiny, own_store):
    runs = set((Path(own_store) / "runs").glob(f"*/{MANIFEST}"))
    with pytest.raises(TrainingError) as caught:
        train(tiny.settings(own_store, epochs=5, checkpoint_epochs=5))
    assert str(caught.value).endswith("the same command would come to the same step.")
    assert not list((Path(own_store) / "checkpoints").glob("*.safetensors"))
    assert set((Path(own_store) / "runs").glob(f"*/{MANIFEST}")) == runs


@pytest.fixture
def spoil(monkeypatch):
    """A function that has a video's stored features hold an infinite number in a step."""

    def spoiled(video, *, step):
        load = pipeline.dataset.load_features

        def load_spoiled(stored, **options):
            loaded = load(stored, **options)
            if stored.video.id == video:
                loaded.features[step, 7] = np.inf
            return loaded

        monkeypatch.setattr(pipeline.dataset, "load_features", load_spoiled)

    return spoiled


@pytest.mark.parametrize("groups", ["", "[ac]|b", "[bc]|a", "[ab]|c"])
def test_features_that_are_not_finite_name_their_video_whether_it_teaches_or_validates(
    tiny, own_store, spoil, groups
):
    spoil("b", step=3)
    with pytest.raises(DatasetError, match=r"^b: 1 of \d+ steps have NaN .* the first is step 3\. Extract"):
        train(tiny.settings(own_store, epochs=1, batch_size=1, validation_groups=groups))


def test_features_that_are_not_finite_in_a_step_only_name_their_video(tiny, own_store, monkeypatch):
    def spoiled(batch, **_):
        if "b" in batch.video_ids:
            batch.features_BTD[batch.video_ids.index("b"), 3] = torch.nan
        return batch

    monkeypatch.setattr("pipeline.train_loop.augmented", spoiled)
    with pytest.raises(TrainingError, match=r"NaN or infinite features in 1 rows.* are those of b\."):
        train(tiny.settings(own_store, epochs=1, batch_size=3))


@pytest.mark.parametrize("kind", ["features", "matching", "loss", "gradient"])
def test_a_process_that_gives_up_leaves_no_other_waiting(tiny, own_store, monkeypatch, request, kind):
    """It takes part in both sums of the step first, whatever its trouble is."""
    taken, sum_gradients, total = [], Team.sum_gradients, Team.total
    monkeypatch.setattr(
        Team, "sum_gradients", lambda self, given: taken.append("gradients") or sum_gradients(self, given)
    )
    monkeypatch.setattr(Team, "total", lambda self, value: taken.append("loss") or total(self, value))
    trouble = {}
    if kind == "features":
        monkeypatch.setattr("pipeline.train_loop.augmented", lambda batch, **_: without_features(batch))
    elif kind == "matching":
        trouble = {"learning_rate": 1e30}
    elif kind == "loss":
        add = TrainingLoop._add_gradients
        monkeypatch.setattr(
            TrainingLoop, "_add_gradients", lambda *args, **how: add(*args, **how) * torch.nan
        )
    else:
        request.getfixturevalue("steep")
    with pytest.raises(TrainingError):
        train(tiny.settings(own_store, epochs=5, **trouble))
    assert taken == ["gradients", "loss"] * (len(taken) // 2)


def without_features(batch):
    batch.features_BTD[:] = torch.nan
    return batch


SPOILED_STEP = """
import json, os, sys, torch; torch.set_num_threads(1)
from pathlib import Path
import pipeline.train_loop
from pipeline.errors import TrainingError
from pipeline.settings import RunSettings
from pipeline.train import train
def spoiled(batch, **_):
    if "b" in batch.video_ids:
        batch.features_BTD[batch.video_ids.index("b"), 3] = torch.nan
    return batch
pipeline.train_loop.augmented = spoiled
try:
    train(RunSettings(**json.loads(sys.argv[1])))
except TrainingError as error:
    Path(sys.argv[2], os.environ["RANK"]).write_text(str(error))
"""


@pytest.mark.slow
def test_both_of_two_processes_give_up_and_say_why_where_one_has_features_that_are_not_finite(
    tiny, own_store, tmp_path
):
    script = tmp_path / "train_it.py"
    script.write_text(SPOILED_STEP)
    settings = tiny.settings(own_store, epochs=5, batch_size=2)
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [sys.executable, *torchrun, str(script), settings.model_dump_json(), str(tmp_path)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert ran.returncode == 0, ran.stderr[-3000:]
    first, second = ((tmp_path / rank).read_text() for rank in "01")
    # Whoever speaks for both says why.
    assert first == second
    assert "b" in first.partition(":")[0].split(", ")
    assert first.endswith("leave the video out. The features are those of b.")
