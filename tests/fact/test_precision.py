"""bfloat16 autocast, and the switches of precision."""

import contextlib

import pytest
import torch

from fact.blocks import FACT
from fact.blocks_sep_verb_noun import VerbNounCriterion
from fact.loss import MatchCriterion, SegmentTarget
from fact.precision import computing_in, cpu_has_bfloat16
from fact.segments import mean_by_segment, segment_runs, soft_overlap

CPU = torch.device("cpu")


def test_bfloat16_keeps_the_published_losses_within_two_percent(golden):
    about, tensors = golden.about, golden.tensors
    model = golden.build()
    kind = VerbNounCriterion if about["kind"] == "svn" else MatchCriterion
    criterion = kind(
        golden.config,
        golden.num_classes,
        about["bg_class"],
        about.get("class_weight"),
        holdout_classes=about["holdout_classes"],
    )
    target = SegmentTarget.from_labels(tensors["labels"], num_classes=golden.num_classes)
    transcript = target.transcript if model.config.model.transcript else None
    with torch.autocast("cpu", torch.bfloat16):
        losses = criterion(model(tensors["input"], transcript=transcript), target)
    losses.total.backward()
    assert losses.total.item() == pytest.approx(tensors["out.loss"].item(), rel=0.02)
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_long_segments_have_their_mean_in_bfloat16_too():
    # Added up in bfloat16, 3000 ones make 256.
    runs = segment_runs(torch.zeros(1, 3000, dtype=torch.long))
    ones = torch.ones(1, 3000, 1, dtype=torch.bfloat16)
    assert mean_by_segment(ones, runs).item() == 1
    assert soft_overlap(ones, runs).item() == 1


def test_bfloat16_trains_a_padded_batch_with_groups_norms_and_segments(small_config):
    torch.manual_seed(0)
    block = {"f_ln": True, "f_ngp": 2, "dropout": 0.2}
    config = small_config(Bi=block, Bu=block, BU=block, FACT={"fpos": True, "cmr": 0.3}, TM={"use": True})
    model, criterion = FACT(config, 5, 4), MatchCriterion(config, 4)
    valid = torch.arange(30) < torch.tensor([[30], [17]])
    target = SegmentTarget.from_labels(torch.arange(30).expand(2, -1) // 8, valid, num_classes=4)
    with torch.autocast("cpu", torch.bfloat16):
        loss = criterion(model(torch.randn(2, 30, 5), valid), target).total
    loss.backward()
    assert loss.dtype == torch.float32
    assert all(p.grad.isfinite().all() and p.grad.dtype == torch.float32 for p in model.parameters())


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_features_of_another_type_are_converted(small_config, dtype):
    model = FACT(small_config(), 5, 4).eval()
    features = torch.randn(9, 5).to(dtype)
    assert torch.equal(model.predict(features).scores, model.predict(features.float()).scores)


def test_switches_are_put_back():
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    with computing_in("tf32", CPU):
        assert torch.get_float32_matmul_precision() == "high"
        assert torch.backends.cudnn.allow_tf32
    with contextlib.suppress(KeyError), computing_in("fp32", CPU):
        assert torch.get_float32_matmul_precision() == "highest"
        assert not torch.backends.cudnn.allow_tf32
        {}["an error on the way"]
    assert (torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32) == before


@pytest.mark.parametrize("has_it", [False, True])
def test_bfloat16_warns_on_a_processor_without_it(monkeypatch, recwarn, has_it):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": has_it, "amx_bf16": False})
    assert cpu_has_bfloat16() is has_it
    recwarn.clear()
    if has_it:
        with computing_in("bf16", CPU):
            assert torch.is_autocast_enabled("cpu")
        assert not recwarn
    else:
        with pytest.warns(UserWarning, match="no bfloat16 instructions"), computing_in("bf16", CPU):
            assert torch.is_autocast_enabled("cpu")
