"""A video gets the same answer alone and in any batch."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fact.blocks import FACT, FACT_CLIP
from fact.loss import MatchCriterion, SegmentTarget

CLASSES, WIDTH = 4, 5
lengths_of_batches = st.lists(st.integers(1, 40), min_size=2, max_size=4)


def collate(rows, fill):
    longest = max(map(len, rows))
    padded = torch.stack(
        [torch.cat([row, row.new_full((longest - len(row), *row.shape[1:]), fill)]) for row in rows]
    )
    valid = torch.arange(longest) < torch.tensor([len(row) for row in rows])[:, None]
    return padded, valid


def videos_of(lengths, seed):
    """Features, and labels of a few segments each."""
    generator = torch.Generator().manual_seed(seed)
    features = [torch.randn(n, WIDTH, dtype=torch.float64, generator=generator) for n in lengths]
    labels = [torch.randint(CLASSES, (n,), generator=generator) for n in lengths]
    return features, [label[torch.arange(len(label)) // 5 * 5] for label in labels]


def config_of(small_config, block, kind, *, norm, position, match):
    bi = {"f": kind, "f_ln": norm and kind == "m", "f_ngp": 2 if norm else 1}
    return small_config(
        FACT={"block": block, "fpos": position, "ntoken": 6},
        Bi=bi,
        Bu=bi,
        BU=bi,
        Loss={"match": match},
    )


configurations = st.tuples(
    st.sampled_from(["iu", "iU", "iuU", "iUU", "iuUu"]),
    st.sampled_from(["m", "m2"]),
    st.booleans(),
    st.booleans(),
    st.sampled_from(["o2o", "o2m"]),
)


def assert_same(batch, alone, video, length):
    """All that two outputs say about one video is equal; padding may differ."""
    for one, other in zip(batch.blocks, alone.blocks, strict=True):
        for name in ("frame_features", "frame_logits", "attention"):
            a, b = getattr(one, name), getattr(other, name)
            if a is not None:
                a = a[video, :length, : b.shape[-1]]
                torch.testing.assert_close(a, b[0], atol=1e-9, rtol=1e-9)
        tokens = other.token_logits.shape[1]
        torch.testing.assert_close(
            one.token_logits[video, :tokens], other.token_logits[0], atol=1e-9, rtol=1e-9
        )
        if one.segmentation is not None:
            assert torch.equal(one.segmentation.index[video, :length], other.segmentation.index[0])


def run(model, criterion, features, labels, *, transcripts=False):
    """Output, per-video losses and predictions of videos as one batch."""
    # What lies on padding must not matter, so it is the worst there is.
    batch, valid = collate(features, torch.nan)
    target = SegmentTarget.from_labels(collate(labels, -1)[0], valid, num_classes=CLASSES)
    transcript = target.transcript if transcripts else None
    output = model(batch, valid, transcript)
    losses = criterion(output, target)
    return output, losses, model.predict(batch, valid, transcript)


def check(model, criterion, lengths, seed, *, transcripts=False):
    model.eval()
    features, labels = videos_of(lengths, seed)
    output, losses, prediction = run(model, criterion, features, labels, transcripts=transcripts)
    for video, length in enumerate(lengths):
        one, one_loss, one_prediction = run(
            model, criterion, [features[video]], [labels[video]], transcripts=transcripts
        )
        assert_same(output, one, video, length)
        assert losses.per_video[video].item() == pytest.approx(one_loss.total.item(), rel=1e-9, abs=1e-9)
        assert torch.equal(prediction.labels[video, :length], one_prediction.labels[0])
        assert prediction.segments(video) == [
            type(s)(start=s.start, stop=s.stop, label=s.label, confidence=pytest.approx(s.confidence))
            for s in one_prediction.segments()
        ]
        assert losses.match.pairs(video) == one_loss.match.pairs()


@given(lengths_of_batches, st.integers(0, 2**16), configurations)
@settings(deadline=None, max_examples=40)
def test_batch_equals_alone(small_config, lengths, seed, configuration):
    block, kind, norm, position, match = configuration
    config = config_of(small_config, block, kind, norm=norm, position=position, match=match)
    torch.manual_seed(seed)
    model = FACT(config, WIDTH, CLASSES).double()
    check(model, MatchCriterion(config, CLASSES), lengths, seed)


@given(lengths_of_batches, st.integers(0, 2**16), st.sampled_from(["sca", "sa", "gru", "gru_om"]))
@settings(deadline=None, max_examples=30)
def test_batch_equals_alone_in_transcript_mode(small_config, lengths, seed, branch):
    config = small_config(
        FACT={"trans": True, "ntoken": 0},
        Bi={"a": branch, "a_dim": 16 if branch == "gru" else 8},
        Loss={"match": "seq"},
    )
    torch.manual_seed(seed)
    model = FACT(config, WIDTH, CLASSES).double()
    check(model, MatchCriterion(config, CLASSES), lengths, seed, transcripts=True)


@given(lengths_of_batches, st.integers(0, 2**16), st.sampled_from(["path", "segments", "published"]))
@settings(deadline=None, max_examples=20)
def test_batch_equals_alone_with_texts(small_config, lengths, seed, fusion):
    config = small_config(holdout_mode=True, holdout_classes=[1])
    torch.manual_seed(seed)
    model = FACT_CLIP(config, WIDTH, CLASSES, text_embeddings=torch.randn(CLASSES, 7)).double()
    check(model, MatchCriterion(config, CLASSES), lengths, seed)
    features, _ = videos_of(lengths, seed)
    batch, valid = collate(features, torch.nan)
    together = model.eval_with_clip(batch, fusion=fusion, valid=valid)
    for video, length in enumerate(lengths):
        alone = model.eval_with_clip(features[video], fusion=fusion)
        torch.testing.assert_close(together.scores[video, :length], alone.scores[0], atol=1e-9, rtol=1e-9)
        assert torch.equal(together.labels[video, :length], alone.labels[0])


def test_segments_of_equal_cost_get_the_same_tokens_in_any_batch(small_config):
    # An untrained block that predicts one segment gives equal runs of one class equal costs.
    config = config_of(small_config, "iUU", "m2", norm=False, position=False, match="o2o")
    torch.manual_seed(0)
    model = FACT(config, WIDTH, CLASSES).double()
    check(model, MatchCriterion(config, CLASSES), [5, 17, 19, 4], 0)


@given(st.permutations(range(3)), st.integers(0, 2**16))
@settings(deadline=None, max_examples=10)
def test_order_of_videos_permutes_the_losses(small_config, order, seed):
    torch.manual_seed(seed)
    model = FACT(small_config(), WIDTH, CLASSES).double().eval()
    criterion = MatchCriterion(small_config(), CLASSES)
    features, labels = videos_of([9, 23, 14], seed)
    _, straight, _ = run(model, criterion, features, labels)
    _, permuted, _ = run(model, criterion, [features[i] for i in order], [labels[i] for i in order])
    torch.testing.assert_close(permuted.per_video, straight.per_video[list(order)], atol=1e-9, rtol=1e-9)


def test_gradient_of_a_batch_is_the_mean_of_its_videos_gradients(small_config):
    torch.manual_seed(0)
    model = FACT(small_config(), WIDTH, CLASSES).double().eval()
    criterion = MatchCriterion(small_config(), CLASSES)
    features, labels = videos_of([9, 23, 14], 0)
    run(model, criterion, features, labels)[1].total.backward()
    together = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    for feature, label in zip(features, labels, strict=True):
        (run(model, criterion, [feature], [label])[1].total / 3).backward()
    for name, p in model.named_parameters():
        torch.testing.assert_close(together[name], p.grad, atol=1e-9, rtol=1e-9)


def smallest_margin(output):
    """By how much the best class of a step beats the second, where it matters least."""
    return min(b.frame_log_probs.exp().topk(2).values.diff().abs().min() for b in output.blocks)


@pytest.mark.parametrize(("block", "seed"), [("iuU", 2), ("iuU", 5), ("iuUU", 58), ("iuUU", 142)])
def test_batch_equals_alone_in_float32_where_no_class_is_close(small_config, block, seed):
    config = small_config(FACT={"block": block, "fpos": True}, Bi={"f_ln": True}, Loss={"sw": 5.0})
    torch.manual_seed(seed)
    model, criterion = FACT(config, WIDTH, CLASSES).eval(), MatchCriterion(config, CLASSES)
    features = [torch.randn(n, WIDTH) for n in (16, 9, 5)]
    labels = [torch.arange(len(rows)) // 5 % CLASSES for rows in features]
    together, losses, _ = run(model, criterion, features, labels)
    for video, (rows, ids) in enumerate(zip(features, labels, strict=True)):
        alone, loss, _ = run(model, criterion, [rows], [ids])
        assert smallest_margin(alone) > 1e-3
        for name in ("frame_logits", "frame_features", "attention"):
            found, wanted = getattr(together.final, name)[video, : len(rows)], getattr(alone.final, name)[0]
            torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)
        assert losses.per_video[video].item() == pytest.approx(loss.total.item(), rel=1e-5)
        assert losses.match.pairs(video) == loss.match.pairs()
