"""The numbers of the published implementation, from weights and input to gradients and predictions."""

from types import SimpleNamespace

import pytest
import torch

from fact.blocks_sep_verb_noun import VerbNounCriterion
from fact.loss import MatchCriterion, SegmentTarget
from tests.fact.conftest import CLONE, FOLDER, SHARED, golden_paths

PUBLISHED_NAMES = {
    "frame_clogit": "frame_logits",
    "action_clogit": "token_logits",
    "seg_clogit": "segment_logits",
    "f2a_attn_logit": "frame_to_token_logits",
    "a2f_attn_logit": "token_to_frame_logits",
    "a2f_attn": "attention",
    "frame_logp": "frame_log_probs",
    "action_logp": "token_log_probs",
    "seg_logp": "segment_log_probs",
}


def test_there_are_as_many_golden_models_as_ever():
    """Parity is shown on all of them: one that went missing would be missed by no other test."""
    names = {path.values[0].stem for path in golden_paths()}
    assert len(names) == (17 if FOLDER == SHARED else 4)
    assert {path.stem for path in CLONE.glob("*.json")} <= names


def close(found, wanted):
    assert found.shape == wanted.shape
    assert (found - wanted).abs().max() <= 1e-4 * wanted.abs().max()


@pytest.fixture(scope="module")
def ran(golden):
    """Everything that one golden model computes here."""
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
    output = model(tensors["input"], transcript=transcript)
    losses = criterion(output, target)
    losses.total.backward()
    if about["kind"] == "clip":
        prediction = model.eval_with_clip(tensors["input"], transcript, fusion="published")
    else:
        prediction = model.predict(tensors["input"], transcript=transcript)
    return SimpleNamespace(output=output, losses=losses, prediction=prediction, model=model)


@pytest.mark.parametrize("published", PUBLISHED_NAMES)
def test_every_block_computes_the_published_tensors(golden, ran, published):
    for index, block in enumerate(ran.output.blocks):
        wanted = golden.tensors.get(f"out.block{index}.{published}")
        found = getattr(block, PUBLISHED_NAMES[published])
        if "attn" in published:
            assert (found is None) is (wanted is None)
        if wanted is not None:
            axis_order = wanted if "attn" in published else wanted.transpose(0, 1)
            close(found.detach(), axis_order)


def test_steps_are_cut_into_the_published_segments(golden, ran):
    for index, block in enumerate(ran.output.blocks):
        wanted = golden.tensors.get(f"out.block{index}.segment_of_frame")
        if wanted is not None:
            assert torch.equal(block.segmentation.index[0], wanted)


def test_losses_are_the_published_ones(golden, ran):
    tensors = golden.tensors
    blocks = torch.stack([block.total for block in ran.losses.blocks])[:, 0]
    assert blocks.tolist() == pytest.approx(tensors["out.block_loss"].tolist(), rel=1e-4)
    assert ran.losses.total.item() == pytest.approx(tensors["out.loss"].item(), rel=1e-4)


def test_contrastive_losses_and_projection_are_the_published_ones(golden, ran):
    tensors = golden.tensors
    assert (ran.losses.contrastive is None) is ("out.contrastive_loss" not in tensors)
    if ran.losses.contrastive is not None:
        found = [ran.losses.contrastive.item(), ran.losses.fact.item()]
        wanted = [tensors["out.contrastive_loss"].item(), tensors["out.fact_loss"].item()]
        assert found == pytest.approx(wanted, rel=1e-4)
    if "out.projected" in tensors:
        close(ran.output.projected.detach(), tensors["out.projected"].transpose(0, 1))


def test_tokens_get_the_published_segments(golden, ran):
    tokens, segments = golden.tensors["out.match_token"], golden.tensors["out.match_segment"]
    assert ran.losses.match.pairs() == set(zip(tokens.tolist(), segments.tolist(), strict=True))


def test_gradient_norms_are_the_published_ones(golden, ran):
    gradients = {name: p.grad for name, p in ran.model.named_parameters()}
    norms = {name: 0.0 if grad is None else grad.norm().item() for name, grad in gradients.items()}
    wanted = {name: norm or 0.0 for name, norm in golden.about["grad_norm"].items()}
    assert norms == {name: pytest.approx(norm, rel=1e-3, abs=1e-5) for name, norm in wanted.items()}


def test_predictions_are_the_published_ones(golden, ran):
    prediction = ran.prediction
    assert torch.equal(prediction.labels[0], golden.tensors["out.pred"])
    scores = prediction.scores if prediction.position_scores is None else prediction.position_scores
    close(scores[0], golden.tensors["out.score"])
