"""A training that is killed, wherever it is, ends with the very weights of an undisturbed one."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from pipeline.errors import TrainingError
from pipeline.settings import RunSettings
from pipeline.train import train
from pipeline.train_loop import TrainingLoop
from pipeline.training_state import load_checkpoint, save_checkpoint
from storage.errors import CorruptArtefactError
from storage.store import Store

pytestmark = pytest.mark.usefixtures("single_thread")

EVERYTHING = {
    "epochs": 3,
    "batch_size": 1,
    "validation_groups": "[ab]|c",
    "ema": 0.5,
    "channel_jitter": 0.1,
    "time_stretch": 0.2,
    "schedule": "cosine",
    "warmup_epochs": 1,
    "checkpoint_steps": 1,
    "checkpoint_epochs": 1,
}
"""Each part of the state in use: average, best weights, two schedules, a place inside an epoch."""


def test_a_training_killed_at_any_moment_ends_with_the_same_bits(tiny, tiny_store, tmp_path):
    stores = [Path(shutil.copytree(tiny_store, tmp_path / f"store{index}")) for index in range(3)]
    for store in stores:
        shutil.rmtree(store / "runs", ignore_errors=True)
    settings = tiny.settings(tiny_store, **EVERYTHING).model_dump(mode="json")
    command = [
        sys.executable,
        "-m",
        "tests.pipeline.killed_training",
        json.dumps(settings),
        *map(str, stores),
    ]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout.splitlines()[-1])
    assert all(digests == found["calm"] for digests in found["killed"])
    assert found["kills"][-1] >= 4
    assert not [path for store in stores for path in (store / "checkpoints").glob("*.safetensors")]


class InterruptedTrainingError(Exception):
    """Stands for whatever ends a training between two steps."""


def interrupt(monkeypatch, *, after_steps):
    step, taken = TrainingLoop._step, []

    def counted(self, *args, **kwargs):
        if len(taken) == after_steps:
            raise InterruptedTrainingError
        taken.append(1)
        return step(self, *args, **kwargs)

    monkeypatch.setattr(TrainingLoop, "_step", counted)
    return taken


def checkpoint_of(store):
    (path,) = (Path(store) / "checkpoints").glob("*.safetensors")
    return path


@pytest.fixture
def interrupted(tiny, own_store, monkeypatch):
    """Settings of a run that stopped inside its third epoch, and its checkpoint."""
    settings = tiny.settings(own_store, **EVERYTHING)
    with monkeypatch.context() as patched:
        interrupt(patched, after_steps=5)
        with pytest.raises(InterruptedTrainingError):
            train(settings)
    return settings, checkpoint_of(own_store)


def test_a_run_goes_on_inside_an_epoch_and_repeats_no_step(interrupted, monkeypatch):
    settings, _ = interrupted
    taken = interrupt(monkeypatch, after_steps=10**6)
    train(settings)
    assert len(taken) == 3 * 2 - 5


@pytest.mark.parametrize("damage", [lambda content: content[:1000], lambda content: content[:-1] + b"?"])
def test_a_damaged_checkpoint_is_named_with_what_to_do(interrupted, damage):
    settings, path = interrupted
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(
        CorruptArtefactError, match=r"cannot be gone on from .* Delete it to train from the start"
    ):
        train(settings)


def test_a_checkpoint_of_another_layout_is_refused(interrupted):
    settings, path = interrupted
    save_file(load_file(path), path, {"layout": "checkpoint/0", "state": "{}"})
    with pytest.raises(CorruptArtefactError, match="its layout is 'checkpoint/0'"):
        train(settings)


def test_the_finished_run_leaves_no_checkpoint(interrupted):
    settings, path = interrupted
    train(settings)
    assert not path.exists()


def test_a_diverging_run_keeps_the_last_good_checkpoint_and_says_where(tiny, own_store, monkeypatch):
    add, calls = TrainingLoop._add_gradients, []

    def diverging(self, batch, *, scale):
        calls.append(1)
        return add(self, batch, scale=scale) * (float("nan") if len(calls) > 4 else 1)

    monkeypatch.setattr(TrainingLoop, "_add_gradients", diverging)
    with pytest.raises(TrainingError) as caught:
        train(tiny.settings(own_store, epochs=5, batch_size=2))
    path = checkpoint_of(own_store)
    assert f"The weights before it are kept in {path}." in str(caught.value)
    assert any(f"{first}, {second}: " in str(caught.value) for first in "abc" for second in "abc")
    assert all(tensor.isfinite().all() for tensor in load_file(path).values())


def test_saved_and_loaded_the_state_is_the_same_to_the_bit(tiny, own_store, tmp_path, monkeypatch):
    states = []

    def remember(self):
        states.append(self._state)
        return run(self)

    run = TrainingLoop.run
    monkeypatch.setattr(TrainingLoop, "run", remember)
    settings = tiny.settings(own_store, **EVERYTHING)
    train(settings)
    train(RunSettings(**{**dict(settings), "training": settings.training.model_copy(update={"seed": 1})}))
    state, other = states
    save_checkpoint(tmp_path / "one.safetensors", state)
    load_checkpoint(tmp_path / "one.safetensors", other)
    save_checkpoint(tmp_path / "two.safetensors", other)
    one, two = (load_file(tmp_path / f"{name}.safetensors") for name in ("one", "two"))
    assert all(np.array_equal(one[name].numpy(), two[name].numpy()) for name in one.keys() | two.keys())
    assert other.position == state.position
    assert not Store(own_store).checkpoint_path("0" * 64).exists()
