"""A training step works on whole batches: no loop over steps, few waits for the device."""

import warnings
from collections import Counter

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from fact.blocks import FACT, FACT_CLIP
from fact.heads import ClassHead
from fact.loss import MatchCriterion, SegmentTarget

CLASSES, WIDTH = 4, 5
# What makes the host wait for numbers of an accelerator.
READS = ("item", "tolist", "cpu", "numpy", "nonzero", "__bool__", "__int__", "__float__", "__index__")


class SixRuns(ClassHead):
    """Predicts six segments, so that the number of segments does not depend on the video."""

    def classes(self, features_BXH):
        num_steps = features_BXH.shape[1]
        return (torch.arange(num_steps) * 6 // num_steps % 2).expand(len(features_BXH), -1)


class CountedCalls(TorchDispatchMode):
    """Counts every operation that torch runs, backward ones too."""

    def __init__(self):
        super().__init__()
        self.calls = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.calls[str(func)] += 1
        return func(*args, **(kwargs or {}))


def prepared(small_config, batch, num_steps, kind=FACT, **sections):
    """Model, criterion, features, valid, and the target of labels in five segments."""
    torch.manual_seed(0)
    config = small_config(FACT={"block": "iuUU", "cmr": 0.3, "fpos": True}, TM={"use": True}, **sections)
    texts = {"text_embeddings": torch.randn(CLASSES, 6)} if kind is FACT_CLIP else {}
    model = kind(config, WIDTH, CLASSES, **texts)
    for block in model.block_list:
        block.head = SixRuns(CLASSES, hidden_dim=16)
    labels = (torch.arange(num_steps) * 5 // num_steps % CLASSES).expand(batch, -1)
    valid = torch.ones(batch, num_steps, dtype=torch.bool)
    target = SegmentTarget.from_labels(labels, valid, num_classes=CLASSES)
    return model, MatchCriterion(config, CLASSES), torch.randn(batch, num_steps, WIDTH), valid, target


def step(model, criterion, features, valid, target):
    criterion(model(features, valid), target).total.backward()


def calls_of(*arguments):
    with CountedCalls() as counted:
        step(*arguments)
    return counted.calls


@pytest.mark.parametrize("rule", ["o2o", "o2m"])
def test_a_longer_video_or_larger_batch_runs_no_operation_more(small_config, rule):
    kinds = {"Loss": {"match": rule}}
    small = calls_of(*prepared(small_config, 2, 30, **kinds))
    assert small == calls_of(*prepared(small_config, 2, 300, **kinds))
    more = calls_of(*prepared(small_config, 5, 30, **kinds))
    # On a CPU a convolution takes its products video by video (fact/convolution.py).
    by_video = {"aten.mm.out", "aten.addmm.out", "aten.permute.default"}
    assert {name for name in small if small[name] != more[name]} <= by_video
    assert small.keys() == more.keys()


@pytest.fixture
def reads(monkeypatch):
    """Counts of the calls by which the host reads numbers of a tensor."""
    found = Counter()

    def counting(name, original):
        def read(self, *args, **kwargs):
            found[name] += 1
            return original(self, *args, **kwargs)

        return read

    for name in READS:
        monkeypatch.setattr(torch.Tensor, name, counting(name, getattr(torch.Tensor, name)))
    return found


@pytest.mark.parametrize("kind", [FACT, FACT_CLIP])
@pytest.mark.parametrize("batch", [1, 3])
def test_the_host_reads_lengths_segments_and_costs_only(small_config, reads, kind, batch):
    arguments = prepared(small_config, batch, 40, kind)
    reads.clear()
    step(*arguments)
    # Lengths once and segment counts of each of two blocks U as lists; the costs of the batch as one array.
    assert dict(reads) == {"tolist": 3, "cpu": 1, "numpy": 1}


def test_costs_are_small(small_config, monkeypatch):
    model, criterion, features, valid, target = prepared(small_config, 2, 400)
    copied = []
    original = torch.Tensor.cpu
    monkeypatch.setattr(torch.Tensor, "cpu", lambda self: copied.append(tuple(self.shape)) or original(self))
    criterion(model(features, valid), target)
    assert copied == [(2, 6, 5)]  # videos, tokens, ground-truth segments: no steps


@pytest.mark.needs_cuda
def test_an_accelerator_is_waited_for_as_often_as_the_host_reads(small_config):
    parts = prepared(small_config, 3, 40)
    model, criterion = (part.cuda() for part in parts[:2])
    features, valid, target = (part.to("cuda") for part in parts[2:])
    for block in model.block_list:
        block.head = ClassHead(CLASSES, hidden_dim=16)
    step(model, criterion, features, valid, target)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            step(model, criterion, features, valid, target)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    waits = [str(w.message) for w in caught if "synchronizing" in str(w.message)]
    # Lengths, two counts of segments, costs; and the tokens' way back.
    assert len(waits) <= 5
