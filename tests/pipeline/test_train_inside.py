"""What a training does inside: in which mode, in which precision, on which device, and which weights it keeps."""

import logging
import warnings
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from fact.loss import MatchCriterion
from pipeline import device
from pipeline.augment import augmented
from pipeline.batch import Sample, collate, target_of
from pipeline.model import load_model
from pipeline.train import train
from pipeline.train_loop import TrainingLoop
from pipeline.training_data import Loading, TrainingData, _place_for
from storage.store import Store
from tests.pipeline.tiny import write_tiny_dataset

pytestmark = pytest.mark.usefixtures("single_thread")

META = torch.device("meta")
"""A device without numbers: whoever reads one from it fails."""


@pytest.fixture
def inside(monkeypatch):
    """What each step found: a list that a function given here fills, called with the loop after its step."""
    step, found = TrainingLoop._step, []
    watched = SimpleNamespace(look=lambda _loop: None, found=found)

    def looked(self, *args, **kwargs):
        loss = step(self, *args, **kwargs)
        found.append(watched.look(self))
        return loss

    monkeypatch.setattr(TrainingLoop, "_step", looked)
    return watched


@pytest.mark.parametrize("wanted", [True, False])
def test_steps_take_deterministic_algorithms_where_it_is_asked_for(tiny, own_store, inside, wanted):
    inside.look = lambda _loop: torch.are_deterministic_algorithms_enabled()
    train(tiny.settings(own_store, epochs=2, deterministic=wanted))
    assert inside.found == [wanted] * 4


@pytest.mark.parametrize("graphs", [True, False])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_network_computes_in_the_precision_asked_for(tiny, own_store, monkeypatch, graphs, precision):
    costs, found = MatchCriterion.costs, set()

    def looked(self, output, target):
        found.add((torch.is_autocast_enabled("cpu"), output.final.frame_logits.dtype))
        return costs(self, output, target)

    monkeypatch.setattr(MatchCriterion, "costs", looked)
    train(tiny.settings(own_store, epochs=1, precision=precision, graphs=graphs))
    assert found == {(precision == "bfloat16", getattr(torch, precision))}


@pytest.mark.parametrize("has", [True, False])
def test_half_precision_on_a_cpu_that_lacks_it_is_warned_of(tiny, own_store, monkeypatch, caplog, has):
    monkeypatch.setattr(device, "cpu_has_bf16", lambda: has)
    device._warn_slow_bf16.cache_clear()
    with caplog.at_level(logging.WARNING, logger="pipeline"):
        train(tiny.settings(own_store, epochs=1))
        assert "bfloat16" not in caplog.text
        train(tiny.settings(own_store, epochs=1, precision="bfloat16"))
    assert caplog.text.count("no bfloat16 instructions") == (not has)


def test_the_average_of_the_weights_is_what_is_scored_and_kept(tiny, own_store, inside, monkeypatch):
    """The average by hand: the weights of the first step, then 0.6 of it and 0.4 of the weights of each."""
    scored = []

    def validate(network, _videos, **_):
        scored.append(copy_of(network))
        return {"f1@50": float(len(scored)), "frame accuracy": 1.0, "edit": 1.0}

    monkeypatch.setattr("pipeline.train_loop.validate", validate)
    inside.look = lambda loop: copy_of(loop._network)
    run = train(tiny.settings(own_store, epochs=3, ema=0.6, batch_size=1, validation_groups=".")).run
    average, averages = inside.found[0], []
    for weights in inside.found:
        average = {name: 0.6 * average[name] + 0.4 * weights[name] for name in average}
        averages.append(average)
    # Two videos in batches of one: two steps an epoch.
    assert len(averages) == 6
    assert len(scored) == 3
    for mine, theirs in zip(averages[1::2], scored, strict=True):
        assert all(torch.allclose(mine[name], theirs[name], atol=1e-6) for name in mine)
    kept = load_model(Store(own_store).run_folder(run), device=torch.device("cpu")).network.state_dict()
    assert all(torch.allclose(averages[-1][name], kept[name], atol=1e-6) for name in kept)
    assert not all(torch.allclose(inside.found[-1][name], kept[name], atol=1e-6) for name in kept)


def copy_of(network):
    return {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}


def test_what_is_loaded_and_what_is_made_anew_is_listed(tmp_path, caplog):
    dataset, store = write_tiny_dataset(tmp_path / "data"), tmp_path / "store"
    dataset.fill(store)
    first = train(dataset.settings(store, epochs=1)).run
    mapping = dataset.root / "mapping.txt"
    mapping.write_text(mapping.read_text() + "3 pour tea\n")
    with caplog.at_level(logging.INFO, logger="pipeline.fine_tune"):
        other = train(dataset.settings(store, epochs=1, init=first)).run
    said = [record.getMessage() for record in caplog.records if record.name == "pipeline.fine_tune"]
    loaded, anew = (message.rpartition(": ")[2].split(", ") for message in said)
    assert said[0].startswith(f"from {first}: {len(loaded)} tensors loaded: ")
    assert said[1].startswith("made anew: ")
    assert "action_query" in loaded
    assert "block_list.0.frame_branch.conv_out.weight (class channels)" in anew
    weights = load_file(Store(store).run_folder(other) / "model.safetensors")
    names = [name.removeprefix("network.") for name in weights if name.startswith("network.")]
    assert sorted([*loaded, *(name.partition(" (")[0] for name in anew)]) == sorted(names)


def samples_of(lengths, *, width=3):
    rng = np.random.default_rng(0)
    return [
        Sample(
            video_id=str(length),
            features_TD=torch.from_numpy(rng.standard_normal((length, width)).astype(np.float32)),
            labels_T=torch.arange(length) // 4 % 3,
        )
        for length in lengths
    ]


def test_what_is_preloaded_to_a_device_goes_there_once_and_labels_stay_on_the_host(monkeypatch):
    stored, moved = samples_of([9, 5, 7]), []
    to = Sample.to
    monkeypatch.setattr(Sample, "to", lambda self, where: moved.append(self.video_id) or to(self, where))
    fake = SimpleNamespace(cache_fits=lambda _size: False, mapped=False)
    data = TrainingData(
        Listed(stored, fake),
        lengths=[9, 5, 7],
        width=3,
        loading=Loading(preload="device", workers=0, device=META),
    )
    for _ in range(2):
        batches = list(data.batches([[0, 2], [1]]))
        assert [batch.video_ids for batch in batches] == [("9", "7"), ("5",)]
        assert {batch.features_BTD.device for batch in batches} == {META}
        assert {batch.valid_BT.device for batch in batches} == {META}
        assert torch.equal(batches[0].labels_BT, collate([stored[0], stored[2]]).labels_BT)
    assert moved == ["9", "5", "7"]


class Listed(list):
    """Samples with what a store says of itself."""

    def __init__(self, samples, facts):
        super().__init__(samples)
        self.__dict__.update(vars(facts))


@pytest.mark.parametrize(("free", "expected"), [(2000, "device"), (1998, "memory")])
def test_features_go_to_a_gpu_where_they_take_less_than_half_of_what_is_free(monkeypatch, free, expected):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _device: (free, 10**9))
    monkeypatch.setattr("pipeline.training_data._free_memory_bytes", lambda: 10**6)
    loading = Loading(preload="auto", workers=0, device=torch.device("cuda"))
    assert _place_for(999, loading, cache_fits=False) == expected


@pytest.mark.parametrize("stretch", [0.0, 0.3])
def test_segments_of_labels_are_found_without_reading_from_the_device(stretch):
    batch = collate(samples_of([40, 25]))
    torch.manual_seed(0)
    there = target_of(augmented(batch.to(META), channel_jitter=0.1, time_stretch=stretch), num_classes=3)
    assert {there.labels.device, there.classes.device, there.segmentation.index.device} == {META}
    torch.manual_seed(0)
    here = target_of(augmented(batch, channel_jitter=0.1, time_stretch=stretch), num_classes=3)
    assert (there.lengths, there.transcripts) == (here.lengths, here.transcripts)
    if not stretch:
        assert [len(one) for one in here.transcripts] == [10, 7]


READS = ("item", "tolist", "cpu", "numpy", "nonzero", "__bool__", "__int__", "__float__", "__index__")
"""What makes the host wait for numbers of an accelerator."""


@pytest.mark.parametrize("batches", [1, 3])
def test_a_step_reads_lengths_segments_and_costs_of_each_batch_and_once_the_loss(
    tiny, own_store, monkeypatch, batches
):
    """Numbers of labels are read on the host, so what makes the target is left out."""
    found, steps, counting, step = Counter(), [], [True], TrainingLoop._step

    def count(name, original):
        def read(self, *args, **kwargs):
            found[name] += counting[0]
            return original(self, *args, **kwargs)

        return read

    def make_target(batch, **how):
        counting[0] = False
        target = target_of(batch, **how)
        counting[0] = True
        return target

    def looked(self, *args, **kwargs):
        found.clear()
        loss = step(self, *args, **kwargs)
        steps.append(dict(found))
        return loss

    monkeypatch.setattr("pipeline.train_loop.target_of", make_target)
    monkeypatch.setattr(TrainingLoop, "_step", looked)
    # As on a GPU: the plain optimiser of a CPU reads its counts of steps.
    monkeypatch.setattr(
        "pipeline.train_loop.make_optimizer",
        lambda parameters, training, **_: torch.optim.Adam(parameters, lr=training.lr, fused=True),
    )
    settings = tiny.settings(own_store, epochs=2, batch_size=3 // batches, accumulate=batches)
    with monkeypatch.context() as patched:
        for name in READS:
            patched.setattr(torch.Tensor, name, count(name, getattr(torch.Tensor, name)))
        train(settings)
    # One block U. Costs are copied as an array, the rest as lists.
    assert steps[-1] == {"tolist": 2 * batches + 1, "cpu": batches, "numpy": batches}


@pytest.mark.needs_cuda
def test_a_step_waits_for_a_gpu_for_lengths_segments_costs_and_once_for_the_loss(
    tiny, own_store, monkeypatch
):
    """Copies to the device that are not pinned wait too: the target's six, the lengths and the tokens."""
    settings = tiny.settings(own_store, epochs=2, preload="device", graphs=False, batch_size=3)
    settings = settings.model_copy(
        update={"extraction": settings.extraction.model_copy(update={"device": "cuda"})}
    )
    step, waits = TrainingLoop._step, []

    def counted(self, *args, **kwargs):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            try:
                loss = step(self, *args, **kwargs)
            finally:
                torch.cuda.set_sync_debug_mode("default")
        waits.append([str(one.message) for one in caught if "synchronizing" in str(one.message)])
        return loss

    monkeypatch.setattr(TrainingLoop, "_step", counted)
    train(settings)
    # Read: lengths, segments of the one block U, costs, loss with gradient; written: target (6), tokens.
    assert len(waits[-1]) <= 4 + 7
