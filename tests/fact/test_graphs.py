"""A step with fixed shapes has the plain step's loss and gradients, on a CPU; recorded as graphs on a GPU."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fact import graphs
from fact.blocks import FACT, FACT_CLIP
from fact.errors import ConfigError, FeatureError, MatchError, TargetError
from fact.graphs import GraphedGradients
from fact.loss import MatchCriterion, SegmentTarget

CLASSES, WIDTH = 4, 5
EXACT = {"atol": 1e-9, "rtol": 1e-9}


def batch_of(lengths, seed, device="cpu"):
    """Features with the worst there is on padding, mask, and the target of labels in runs of five steps."""
    generator = torch.Generator().manual_seed(seed)
    valid = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    features = torch.randn(*valid.shape, WIDTH, dtype=torch.float64, generator=generator)
    features = features.masked_fill(~valid[..., None], torch.nan)
    labels = torch.randint(CLASSES, valid.shape, generator=generator)[:, torch.arange(max(lengths)) // 5 * 5]
    target = SegmentTarget.from_labels(labels.to(device), valid.to(device), num_classes=CLASSES)
    return features.to(device), valid.to(device), target


def make(small_config, kind=FACT, seed=0, **sections):
    torch.manual_seed(seed)
    config = small_config(**sections)
    texts = {"text_embeddings": torch.randn(CLASSES, 6)} if kind is FACT_CLIP else {}
    return kind(config, WIDTH, CLASSES, **texts).double(), MatchCriterion(config, CLASSES).double()


def plain(model, criterion, batch, scale=1.0):
    """Loss and gradients of the plain step."""
    model.zero_grad()
    features, valid, target = batch
    loss = criterion(model(features, valid), target).total
    (loss * scale).backward()
    return loss.detach(), {name: p.grad for name, p in model.named_parameters()}


def check(model, criterion, gradients, batch, scale=1.0):
    wanted_loss, wanted = plain(model, criterion, batch, scale)
    model.zero_grad()
    loss = gradients(*batch, scale=scale)
    torch.testing.assert_close(loss, wanted_loss, **EXACT)
    for name, parameter in model.named_parameters():
        assert (parameter.grad is None) is (wanted[name] is None), name
        if parameter.grad is not None:
            torch.testing.assert_close(parameter.grad, wanted[name], **EXACT, msg=name)


lengths_of_steps = st.lists(st.lists(st.integers(1, 70), min_size=1, max_size=3), min_size=1, max_size=3)


@given(lengths_of_steps, st.integers(0, 2**16), st.sampled_from(["iu", "iuU", "iUU"]), st.sampled_from("mM"))
@settings(deadline=None, max_examples=25)
def test_losses_and_gradients_are_those_of_the_plain_step(small_config, steps, seed, block, kind):
    branch = {"f": "m2" if kind == "M" else "m"}
    model, criterion = make(
        small_config, seed=seed, FACT={"block": block, "fpos": True}, Bi=branch, Bu=branch, BU=branch
    )
    gradients = GraphedGradients(model, criterion)
    for index, lengths in enumerate(steps):
        check(model, criterion, gradients, batch_of(lengths, seed + index), scale=0.5 + index)


def test_losses_and_gradients_with_texts_and_classes_left_out(small_config):
    model, criterion = make(
        small_config, FACT_CLIP, holdout_mode=True, holdout_classes=[1, 3], CLIP={"projection_dropout": 0.0}
    )
    check(model, criterion, GraphedGradients(model, criterion), batch_of([33, 20], 1))


def test_a_shape_is_recorded_once_and_the_oldest_makes_place(small_config, monkeypatch):
    monkeypatch.setattr(graphs, "KEPT", 2)
    model, criterion = make(small_config, FACT={"block": "iu"})
    gradients = GraphedGradients(model, criterion)
    recorded = []
    monkeypatch.setattr(gradients, "_record", lambda function: recorded.append(function) or function)
    for length, wanted in [(40, 1), (50, 1), (90, 2), (60, 2), (120, 3), (90, 4), (120, 4)]:
        check(model, criterion, gradients, batch_of([length], 3))
        assert len(recorded) == 3 * wanted  # forward, losses, backward


@pytest.mark.parametrize("rooms", [(1, 2, 4, 128), (1, 2)])
def test_too_little_room_is_noticed(small_config, monkeypatch, rooms):
    monkeypatch.setattr(graphs, "ROOMS", rooms)
    model, criterion = make(small_config, FACT={"block": "iUU"})
    gradients = GraphedGradients(model, criterion)
    gradients._found.clear()
    gradients._found.append(1)
    batch = batch_of([60, 31], 2)
    found = [b.segmentation.counts for b in model(*batch[:2]).blocks if b.segmentation is not None]
    assert max(max(counts) for counts in found) > 4
    check(model, criterion, gradients, batch)
    check(model, criterion, gradients, batch)


def test_random_masks_do_not_depend_on_how_much_room_there_was(small_config, monkeypatch):
    monkeypatch.setattr(graphs, "ROOMS", (1, 128))
    model, criterion = make(small_config, FACT={"block": "iU", "cmr": 0.5})
    losses = []
    for remembered in (1, 100):
        gradients = GraphedGradients(model, criterion)
        gradients._found.append(remembered)
        gradients._found.popleft()
        torch.manual_seed(7)
        losses.append(gradients(*batch_of([64], 2)))
    assert torch.equal(*losses)


def test_gradients_add_up_until_they_are_none(small_config):
    model, criterion = make(small_config)
    first, second = batch_of([30, 12], 0), batch_of([70], 1)
    _, one = plain(model, criterion, first, 0.25)
    one = {name: None if grad is None else grad.clone() for name, grad in one.items()}
    _, other = plain(model, criterion, second)
    model.zero_grad()
    gradients = GraphedGradients(model, criterion)
    gradients(*first, scale=0.25)
    gradients(*second)
    for name, parameter in model.named_parameters():
        if one[name] is not None:
            torch.testing.assert_close(parameter.grad, one[name] + other[name], **EXACT)


def test_gradients_taken_elsewhere_are_added_to(small_config):
    model, criterion = make(small_config)
    batch = batch_of([30], 0)
    _, wanted = plain(model, criterion, batch)
    wanted = {name: None if grad is None else 2 * grad for name, grad in wanted.items()}
    GraphedGradients(model, criterion)(*batch)  # the plain step's gradients are still there
    for name, parameter in model.named_parameters():
        if wanted[name] is not None:
            torch.testing.assert_close(parameter.grad, wanted[name], **EXACT)


def test_autocast_multiplies_in_half_precision_and_leaves_full_gradients(small_config):
    model, criterion = (part.float() for part in make(small_config, FACT={"block": "iu"}))
    features, valid, target = batch_of([40, 20], 0)
    exact, slopes = plain(model, criterion, (features, valid, target))
    slopes = {name: None if grad is None else grad.clone() for name, grad in slopes.items()}
    model.zero_grad()
    loss = GraphedGradients(model, criterion, autocast=torch.bfloat16)(features, valid, target)
    assert loss != exact
    torch.testing.assert_close(loss, exact, rtol=0.02, atol=0)
    for name, parameter in model.named_parameters():
        if slopes[name] is not None:
            assert parameter.grad.dtype == torch.float32
            assert (parameter.grad - slopes[name]).norm() <= 0.1 * slopes[name].norm() + 0.02, name


def test_errors_are_those_of_the_plain_step(small_config):
    model, criterion = make(small_config)
    gradients = GraphedGradients(model, criterion)
    features, valid, target = batch_of([30, 12], 0)
    with pytest.raises(FeatureError, match="row 3"):
        gradients(features.index_fill(1, torch.tensor([3]), torch.inf), valid, target)
    with pytest.raises(TargetError, match="cut or resample"):
        gradients(features, valid, batch_of([30, 11], 0)[2])
    with torch.no_grad():
        model.action_query.fill_(torch.nan)
    with pytest.raises(MatchError, match="not finite"):
        gradients(features, valid, target)


def test_transcript_mode_is_refused(small_config):
    config = small_config(FACT={"trans": True, "ntoken": 0}, Loss={"match": "seq"})
    with pytest.raises(ConfigError, match="without graphs"):
        GraphedGradients(FACT(config, WIDTH, CLASSES), MatchCriterion(config, CLASSES))


@pytest.mark.needs_cuda
@pytest.mark.parametrize(
    ("kind", "held_out"),
    [(FACT, {}), (FACT_CLIP, {}), (FACT_CLIP, {"holdout_mode": True, "holdout_classes": [1, 3]})],
)
def test_recorded_steps_are_the_plain_ones(small_config, kind, held_out):
    texts = {"projection_dropout": 0.0, "token_contrastive_weight": 0.5 if held_out else 0.0}
    sections = {"FACT": {"block": "iuUU"}, "CLIP": texts, **held_out}
    model, criterion = (part.cuda() for part in make(small_config, kind, **sections))
    gradients = GraphedGradients(model, criterion)
    for seed, lengths in enumerate([[40, 12], [64, 64], [40, 33], [100], [64, 64], [7, 40]]):
        check(model, criterion, gradients, batch_of(lengths, seed, "cuda"), scale=1.0 + seed)
