"""The rules of FACT.md sections 7 and 8 on outputs made by hand."""

import math
from dataclasses import replace

import pytest
import torch

from fact.blocks import FACT, FACT_CLIP
from fact.errors import ConfigError
from fact.loss import SegmentTarget
from fact.outputs import BlockOutput, FactOutput
from fact.predict import PredictedSegment, predict, predict_texts, predict_with_texts


def output_of(frame_probs, token_probs, attention, *, transcript=None, projected=None, texts=None):
    """An output whose last block says exactly this; probabilities of tokens end with null."""
    frame, token = torch.tensor(frame_probs).log(), torch.tensor(token_probs).log()
    block = BlockOutput(
        frame_features=frame,
        frame_logits=frame,
        frame_log_probs=frame,
        token_features=token,
        token_logits=token,
        token_log_probs=token,
        attention=torch.tensor(attention),
    )
    return FactOutput(
        blocks=(block,),
        valid=torch.ones(frame.shape[:2], dtype=torch.bool),
        lengths=(frame.shape[1],) * len(frame),
        token_valid=torch.ones(token.shape[:2], dtype=torch.bool),
        token_lengths=(token.shape[1],) * len(token),
        transcript=None if transcript is None else torch.tensor(transcript),
        projected=projected,
        text_embeddings=texts,
    )


def test_steps_merge_their_own_probabilities_with_those_of_their_token():
    output = output_of(
        [[[0.6, 0.4], [0.6, 0.4]]],
        [[[0.1, 0.3, 0.6], [0.2, 0.6, 0.2]]],
        [[[0.9, 0.1], [0.2, 0.8]]],
    )
    prediction = predict(output, frame_weight=0.1)
    # Token 0 is null, so both steps take token 1, whose probabilities without null are 1/4 and 3/4.
    wanted = [0.1 * 0.6 + 0.9 * 0.25, 0.1 * 0.4 + 0.9 * 0.75]
    torch.testing.assert_close(prediction.scores, torch.tensor([[wanted, wanted]]))
    assert prediction.labels.tolist() == [[1, 1]]
    assert prediction.confidence[0].tolist() == pytest.approx([wanted[1]] * 2)


def test_without_a_token_the_steps_decide_alone():
    output = output_of([[[0.6, 0.4], [0.3, 0.7]]], [[[0.1, 0.1, 0.8]]], [[[1.0], [1.0]]])
    prediction = predict(output, frame_weight=0.1)
    assert prediction.labels.tolist() == [[0, 1]]
    torch.testing.assert_close(prediction.scores, output.final.frame_log_probs.exp())


def test_a_transcript_gives_its_classes_through_a_second_softmax():
    output = output_of(
        [[[0.5, 0.3, 0.2]]],
        [[[0.2, 0.2, 0.2, 0.4]] * 2],
        [[[0.1, 0.9]]],
        transcript=[[2, 0]],
    )
    prediction = predict(output, frame_weight=0.4)
    second = math.exp(0.9) / (math.exp(0.1) + math.exp(0.9))
    wanted = [0.4 * 0.2 + 0.6 * (1 - second), 0.4 * 0.5 + 0.6 * second]
    torch.testing.assert_close(prediction.position_scores, torch.tensor([[wanted]]))
    assert prediction.labels.tolist() == [[0]]
    torch.testing.assert_close(prediction.scores, torch.tensor([[[wanted[1], 0.0, wanted[0]]]]))


def test_segments_are_runs_of_labels_with_their_mean_confidence():
    output = output_of(
        [[[0.75, 0.25], [0.5, 0.5], [0.125, 0.875]]], [[[0.1, 0.1, 0.8]]], [[[1.0], [1.0], [1.0]]]
    )
    assert predict(output, frame_weight=0.5).segments() == [
        PredictedSegment(start=0, stop=2, label=0, confidence=pytest.approx(0.625)),
        PredictedSegment(start=2, stop=3, label=1, confidence=pytest.approx(0.875)),
    ]


@pytest.fixture
def looks_unseen():
    """Tokens and steps are sure of seen classes 0 and 1; the texts see class 2 in the second half."""
    sure = [[0.98, 0.01, 0.01]] * 3 + [[0.01, 0.98, 0.01]] * 3
    texts = torch.eye(3)
    projected = torch.stack([texts[0]] * 3 + [texts[2]] * 3)[None]
    tokens = [[[0.97, 0.01, 0.01, 0.01], [0.01, 0.97, 0.01, 0.01]]]
    attention = [[[0.9, 0.1]] * 3 + [[0.1, 0.9]] * 3]
    return output_of([sure], tokens, attention, projected=projected, texts=texts)


def fused(output, fusion, unseen=(2,)):
    return predict_with_texts(output, frame_weight=0.1, temperature=0.1, unseen_classes=unseen, fusion=fusion)


def test_fusion_by_segments_reaches_a_class_that_was_never_seen(looks_unseen):
    prediction = fused(looks_unseen, "segments")
    assert prediction.labels.tolist() == [[0, 0, 0, 2, 2, 2]]
    torch.testing.assert_close(prediction.scores.sum(-1), torch.ones(1, 6))


def test_fusion_by_path_reaches_it_too_and_a_price_keeps_it_from_flickering(looks_unseen):
    prediction = fused(looks_unseen, "path")
    assert prediction.labels.tolist() == [[0, 0, 0, 2, 2, 2]]
    projected = looks_unseen.projected.clone()
    projected[0, 4] = torch.eye(3)[1]  # one step in the middle of a segment looks like another class
    noisy = replace(looks_unseen, projected=projected)
    steps = {"frame_weight": 0.1, "temperature": 0.1, "unseen_classes": (2,), "fusion": "path"}
    assert predict_with_texts(noisy, switch_cost=0.0, **steps).labels.tolist() == [[0, 0, 0, 2, 1, 2]]
    assert predict_with_texts(noisy, switch_cost=6.0, **steps).labels.tolist() == [[0, 0, 0, 2, 2, 2]]


def test_unseen_classes_are_favoured_by_as_many_nats_as_asked(looks_unseen):
    """The first half is 10 nats nearer to the text of a seen class: similarity 1 against 0 at temperature 0.1."""
    steps = {"frame_weight": 0.1, "temperature": 0.1, "unseen_classes": (2,), "fusion": "path"}
    for bias, first in ((-9.0, 0), (9.0, 0), (11.0, 2)):
        prediction = predict_with_texts(looks_unseen, switch_cost=0.0, unseen_bias=bias, **steps)
        assert prediction.labels.tolist() == [[first] * 3 + [2] * 3]
    against = predict_with_texts(looks_unseen, switch_cost=0.0, unseen_bias=-11.0, **steps)
    assert 2 not in against.labels


def test_texts_that_were_not_trained_with_are_favoured(looks_unseen):
    # Cosines 1 and 0.8 in the first half: a new text comes out where its bias is worth more than (1 - 0.8) / 0.1.
    texts = torch.tensor([[3.0, 0.0, 0.0], [0.8, 0.6, 0.0]])

    def first(unseen_classes=(2,), **bias):
        how = {"temperature": 0.1, "switch_cost": 0.0, "unseen_classes": unseen_classes}
        found = predict_texts(looks_unseen, texts, **how, **bias)
        return found.labels[0, 0].item()

    assert first() == first(unseen_bias=1.9) == 0
    assert first(unseen_bias=2.1) == 1
    # The first text is that of class 0: where class 0 was not trained with either, both are favoured alike.
    assert first(unseen_classes=(0, 2), unseen_bias=2.1) == 0


def test_other_texts_than_those_of_training_can_be_asked_for(looks_unseen):
    texts = torch.tensor([[0.0, 0.0, 5.0], [2.0, 0.0, 0.0]])
    prediction = predict_texts(looks_unseen, texts, temperature=0.1)
    assert prediction.labels.tolist() == [[1, 1, 1, 0, 0, 0]]
    assert (prediction.confidence > 0.99).all()
    with pytest.raises(ConfigError, match="width 3"):
        predict_texts(looks_unseen, torch.ones(2, 4), temperature=0.1)


def test_published_fusion_does_not_reach_it(looks_unseen):
    assert fused(looks_unseen, "published").labels.tolist() == [[0, 0, 0, 1, 1, 1]]


def test_without_unseen_classes_fusion_is_the_plain_rule(looks_unseen):
    plain = predict(looks_unseen, frame_weight=0.1)
    for fusion in ("path", "segments"):
        assert torch.equal(fused(looks_unseen, fusion, unseen=()).scores, plain.scores)


def test_an_unknown_fusion_lists_those_there_are(looks_unseen):
    with pytest.raises(ConfigError, match="path, segments, published"):
        fused(looks_unseen, "best")


def test_a_model_without_texts_cannot_use_them():
    with pytest.raises(ConfigError, match="FACT_CLIP"):
        fused(output_of([[[1.0]]], [[[0.5, 0.5]]], [[[1.0]]]), "segments")


def test_prediction_needs_no_labels_and_marks_padding(small_config):
    model = FACT(small_config(), 5, 4).eval()
    valid = torch.arange(8) < torch.tensor([8, 5])[:, None]
    prediction = model.predict(torch.randn(2, 8, 5), valid)
    assert (prediction.labels[1, 5:] == -1).all()
    assert (prediction.confidence[1, 5:] == 0).all()
    assert prediction.labels[valid].min() >= 0
    assert sum(s.stop - s.start for s in prediction.segments(1)) == 5
    assert not prediction.scores.requires_grad


def test_a_transcript_is_followed_with_texts_too(small_config):
    config = small_config(FACT={"trans": True, "ntoken": 0}, Loss={"match": "seq"})
    model = FACT_CLIP(config, 5, 4, text_embeddings=torch.randn(4, 6)).eval()
    target = SegmentTarget.from_labels(torch.tensor([0, 0, 3, 3]), num_classes=4)
    for fusion in ("path", "segments", "published"):
        labels = model.eval_with_clip(torch.randn(4, 5), target.transcript, fusion).labels
        assert set(labels[0].tolist()) <= {0, 3}
