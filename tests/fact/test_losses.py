"""Every term against FACT.md section 6 and 8 written out as loops over steps, tokens and pairs."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fact import terms
from fact.blocks import FACT
from fact.contrastive import infonce_contrastive_loss, token_contrastive_loss
from fact.errors import ConfigError, TargetError
from fact.loss import MatchCriterion, SegmentTarget, null_class_weight
from fact.matching import Match
from fact.segments import segment_runs

CLASSES, TOKENS = 4, 5
WEIGHT = torch.tensor([1.0, 0.5, 2.0, 0.7, 0.3], dtype=torch.float64)


def match_from(token_of_segment, target):
    """A match from the token of each segment, -1 for none."""
    counts, classes = [0] * TOKENS, [CLASSES] * TOKENS
    for segment, token in enumerate(token_of_segment):
        if token >= 0:
            counts[token] += 1
            classes[token] = target.transcripts[0][segment]
    return Match(
        token_of_segment=torch.tensor([token_of_segment]),
        segments_of_token=torch.tensor([counts]),
        class_of_token=torch.tensor([classes]),
    )


@st.composite
def scenes(draw):
    """Labels, predicted ids, a one-to-many match and a seed."""
    labels = draw(st.lists(st.integers(0, CLASSES - 1), min_size=1, max_size=10))
    ids = draw(st.lists(st.integers(0, 1), min_size=len(labels), max_size=len(labels)))
    torch.manual_seed(draw(st.integers(0, 2**16)))
    target = SegmentTarget.from_labels(torch.tensor([labels]), num_classes=CLASSES)
    token_of_class = draw(st.permutations(range(TOKENS)))
    tokens = [token_of_class[label] if draw(st.booleans()) else -1 for label in target.transcripts[0]]
    return target, segment_runs(torch.tensor([ids])), match_from(tokens, target)


def membership(target, runs):
    """o (rows, segments): share of a row's steps that lie in each ground-truth segment."""
    steps = torch.nn.functional.one_hot(target.segmentation.index[0], target.segmentation.counts[0]).double()
    if runs is None:
        return steps
    return torch.stack([steps[runs.index[0] == n].mean(0) for n in range(runs.counts[0])])


@pytest.mark.parametrize("by_segment", [False, True])
@given(scene=scenes())
@settings(deadline=None)
def test_label_loss_is_weighted_cross_entropy_with_the_mean_label_distribution(by_segment, scene):
    target, runs, _ = scene
    runs = runs if by_segment else None
    shares = membership(target, runs)
    log_probs = torch.randn(1, len(shares), CLASSES, dtype=torch.float64).log_softmax(-1)
    wanted = 0.0
    for segment, label in enumerate(target.transcripts[0]):
        wanted -= (WEIGHT[label] * shares[:, segment] * log_probs[0, :, label]).sum() / len(shares)
    found = terms.label_loss(log_probs, target, WEIGHT, runs)
    assert found.item() == pytest.approx(float(wanted))


@pytest.mark.parametrize("by_segment", [False, True])
@given(scene=scenes())
@settings(deadline=None)
def test_attention_losses_have_one_column_per_pair(by_segment, scene):
    target, runs, match = scene
    runs = runs if by_segment else None
    shares = membership(target, runs)
    f2a = torch.randn(1, TOKENS, len(shares), dtype=torch.float64)
    a2f = torch.randn(1, len(shares), TOKENS, dtype=torch.float64)
    pairs = sorted(match.pairs())
    found = [
        terms.frame_to_token_loss(f2a, target, match, WEIGHT, runs).item(),
        terms.token_to_frame_loss(a2f, target, match, WEIGHT, runs).item(),
    ]
    wanted = [0.0, 0.0]
    if pairs:
        columns_f2a = f2a[0, [token for token, _ in pairs]].log_softmax(-1)
        columns_a2f = a2f[0][:, [token for token, _ in pairs]].log_softmax(-1)
        for column, (_, segment) in enumerate(pairs):
            weight = WEIGHT[target.transcripts[0][segment]] * shares[:, segment] / len(shares)
            wanted[0] -= float((weight * columns_f2a[column]).sum())
            wanted[1] -= float((weight * columns_a2f[:, column]).sum())
    assert found == pytest.approx(wanted)


@given(scene=scenes())
@settings(deadline=None)
def test_token_loss_is_torchs_weighted_cross_entropy(scene):
    _, _, match = scene
    logits = torch.randn(1, TOKENS, CLASSES + 1, dtype=torch.float64)
    valid = torch.ones(1, TOKENS, dtype=torch.bool)
    found = terms.token_loss(logits.log_softmax(-1), match, WEIGHT, valid)
    wanted = torch.nn.functional.cross_entropy(logits[0], match.class_of_token[0], weight=WEIGHT)
    torch.testing.assert_close(found[0], wanted)


def test_smoothing_is_the_mean_of_capped_squared_changes():
    log_probs = torch.randn(1, 6, 3, dtype=torch.float64).mul(4).log_softmax(-1)
    changes = (log_probs[0, 1:] - log_probs[0, :-1]).square().clamp(max=16)
    assert (changes == 16).any()
    found = terms.smooth_loss(log_probs, torch.ones(1, 6, dtype=torch.bool))
    torch.testing.assert_close(found[0], changes.mean())


def test_smoothing_of_one_step_is_zero():
    assert terms.smooth_loss(torch.randn(1, 1, 3), torch.ones(1, 1, dtype=torch.bool)).tolist() == [0]


def infonce_by_words(steps, texts, labels, temperature, unseen):
    """FACT.md section 8 for one video."""
    seen = [c for c in range(len(texts)) if c not in unseen]
    kept = [t for t, label in enumerate(labels) if label in seen]
    if not kept:
        return 0.0
    similarity = steps[kept] @ texts[seen].T / temperature
    own = [seen.index(labels[t]) for t in kept]
    to_text = torch.nn.functional.cross_entropy(similarity, torch.tensor(own))
    over_steps = similarity.log_softmax(0)
    to_step = 0.0
    for column in range(len(seen)):
        rows = [row for row, label in enumerate(own) if label == column]
        if rows:
            to_step -= over_steps[rows, column].mean()
    return float((to_text + to_step / len(seen)) / 2)


@given(
    st.lists(st.integers(0, CLASSES - 1), min_size=1, max_size=9),
    st.sets(st.integers(0, CLASSES - 1), max_size=3),
    st.integers(0, 2**16),
)
@settings(deadline=None)
def test_infonce_is_what_its_words_say(labels, unseen, seed):
    torch.manual_seed(seed)
    steps = torch.nn.functional.normalize(torch.randn(1, len(labels), 6, dtype=torch.float64), dim=-1)
    texts = torch.nn.functional.normalize(torch.randn(CLASSES, 6, dtype=torch.float64), dim=-1)
    found = infonce_contrastive_loss(
        steps, texts, torch.tensor([labels]), temperature=0.2, unseen_classes=tuple(unseen)
    )
    assert found.item() == pytest.approx(infonce_by_words(steps[0], texts, labels, 0.2, unseen))


def test_infonce_without_a_seen_step_is_zero_and_has_a_finite_gradient():
    steps = torch.randn(1, 3, 6, requires_grad=True)
    loss = infonce_contrastive_loss(
        steps, torch.randn(CLASSES, 6), torch.tensor([[2, 2, 2]]), unseen_classes=[2]
    )
    loss.sum().backward()
    assert loss.item() == 0
    assert torch.equal(steps.grad, torch.zeros_like(steps))


def test_token_contrast_compares_matched_tokens_with_the_texts_of_their_segments():
    target = SegmentTarget.from_labels(torch.tensor([[0, 0, 3, 1]]), num_classes=CLASSES)
    match = match_from([4, -1, 2], target)
    tokens, texts = torch.randn(1, TOKENS, 6), torch.randn(CLASSES, 6)
    found = token_contrastive_loss(tokens, texts, target, match, temperature=0.3)
    wanted = infonce_by_words(tokens[0, [4, 2]], texts, [0, 1], 0.3, set())
    assert found.item() == pytest.approx(wanted, rel=1e-5)


def test_null_weight_without_idle_tokens_names_both_numbers():
    with pytest.raises(ConfigError, match=r"10 tokens .* 12\.5 segments"):
        null_class_weight(num_tokens=10, mean_segments=12.5, num_classes=4)


def test_derived_null_weight_without_a_mean_asks_for_it(small_config):
    with pytest.raises(ConfigError, match="mean_segments"):
        MatchCriterion(small_config(Loss={"nullw": -1}), n_classes=CLASSES)


def test_null_weight_is_derived_from_the_mean(small_config):
    criterion = MatchCriterion(small_config(Loss={"nullw": -1}), n_classes=CLASSES, mean_segments=4)
    assert criterion.class_weight.tolist() == [1, 1, 1, 1, 6 / (2 * 4)]


def test_background_classes_weigh_what_the_configuration_says(small_config):
    criterion = MatchCriterion(small_config(Loss={"bgw": 0.5}), n_classes=CLASSES, bg_class=[1, 3])
    assert criterion.class_weight.tolist() == pytest.approx([1, 0.5, 1, 0.5, 0.3])


def test_given_class_weights_replace_the_background_weight_but_not_the_null_weight(small_config):
    criterion = MatchCriterion(
        small_config(Loss={"bgw": 0.5}), n_classes=CLASSES, bg_class=[0], class_weight=[4, 3, 2, 1]
    )
    assert criterion.class_weight.tolist() == pytest.approx([4, 3, 2, 1, 0.3])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"bg_class": [4]}, "Background class 4"),
        ({"holdout_classes": [9]}, "Held-out class 9"),
        ({"class_weight": [1.0, 2.0]}, "4 weights"),
        ({"class_weight": [1.0, 2.0, -1.0, 1.0]}, "4 weights"),
    ],
)
def test_classes_and_weights_that_do_not_fit_are_errors(small_config, arguments, words):
    with pytest.raises(ConfigError, match=words):
        MatchCriterion(small_config(), n_classes=CLASSES, **arguments)


def test_a_target_of_other_lengths_is_an_error_that_names_both(small_config):
    output = FACT(small_config(), 3, CLASSES)(torch.randn(7, 3))
    target = SegmentTarget.from_labels(torch.zeros(6, dtype=torch.long), num_classes=CLASSES)
    with pytest.raises(TargetError, match=r"\[7\] steps .* \[6\]"):
        MatchCriterion(small_config(), n_classes=CLASSES)(output, target)


@pytest.mark.parametrize("labels", [[0, 4], [-1, 0]])
def test_labels_outside_the_classes_are_an_error_that_names_them(labels):
    with pytest.raises(TargetError, match=f"{min(labels)} to {max(labels)}"):
        SegmentTarget.from_labels(torch.tensor(labels), num_classes=CLASSES)


def test_padded_labels_may_hold_anything():
    labels, valid = torch.tensor([[1, 1, -100]]), torch.tensor([[True, True, False]])
    target = SegmentTarget.from_labels(labels, valid, num_classes=2)
    assert target.transcripts == ((1,),)
    assert target.transcript.tolist() == [[1]]


def test_named_losses_are_detached_scalars(small_config):
    model, criterion = FACT(small_config(), 3, CLASSES), MatchCriterion(small_config(), n_classes=CLASSES)
    labels = torch.tensor([0, 0, 1, 1, 2])
    named = criterion(
        model(torch.randn(5, 3)), SegmentTarget.from_labels(labels, num_classes=CLASSES)
    ).named()
    assert {"total", "fact", "block0.frame", "block2.segment"} <= set(named)
    assert all(value.shape == () and not value.requires_grad for value in named.values())
