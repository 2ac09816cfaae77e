"""The verb/noun variant beside its numbers: pairs, batches, transcripts, wrong lists."""

import pytest
import torch

from fact.blocks_sep_verb_noun import FACT, VerbNounCriterion
from fact.config import recipe
from fact.errors import ConfigError
from fact.heads import VerbNounHead
from fact.loss import SegmentTarget

PAIRS = {"verb_of_class": [0, 1, 1, 0], "noun_of_class": [0, 0, 2, 2], "n_verbs": 2, "n_nouns": 3}


def model_of(config, **changes):
    torch.manual_seed(0)
    return FACT(config, 5, **{**PAIRS, **changes}).double()


def test_a_class_is_as_probable_as_its_verb_times_its_noun():
    pairs = ([0, 1, 1, 0], [0, 0, 2, 2])
    head = VerbNounHead(*pairs, num_verbs=2, num_nouns=3, hidden_dim=16)
    x = torch.randn(1, 3, 16)
    split = head.split(x, with_null=True)
    verb, noun = x[..., -7:-4].softmax(-1), x[..., -4:].softmax(-1)
    wanted = torch.stack(
        [verb[..., v] * noun[..., n] for v, n in [(0, 0), (1, 0), (1, 2), (0, 2), (2, 3)]], -1
    )
    torch.testing.assert_close(split.log_probs.exp(), wanted)
    torch.testing.assert_close(split.features, torch.cat([x[..., :-7], verb, noun], -1))


@pytest.mark.parametrize("transcripts", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_batch_equals_alone(small_config, transcripts, seed):
    model = {"block": "IuU", "trans": transcripts, "fpos": True}
    config = small_config(FACT=model, Loss={"match": "seq" if transcripts else "o2m"})
    model, criterion = model_of(config).eval(), VerbNounCriterion(config, 4)
    torch.manual_seed(seed)
    features = torch.randn(3, 30, 5, dtype=torch.float64)
    labels = torch.randint(4, (3, 6)).repeat_interleave(5, dim=1)
    lengths = (30, 17, 4)
    valid = torch.arange(30) < torch.tensor(lengths)[:, None]
    target = SegmentTarget.from_labels(labels, valid, num_classes=4)
    transcript = target.transcript if transcripts else None
    together = criterion(model(features, valid, transcript), target).per_video
    prediction = model.predict(features, valid, transcript)
    for video, length in enumerate(lengths):
        one = SegmentTarget.from_labels(labels[video, :length], num_classes=4)
        transcript = one.transcript if transcripts else None
        alone = criterion(model(features[video, :length], transcript=transcript), one)
        assert together[video].item() == pytest.approx(alone.total.item(), rel=1e-9)
        single = model.predict(features[video, :length], transcript=transcript)
        assert torch.equal(prediction.labels[video, :length], single.labels[0])


def test_the_published_recipe_builds_and_trains(small_config):
    config = small_config(FACT={"block": recipe("epic-kitchens").model.blocks}, Loss={"match": "o2m"})
    model = model_of(config)
    target = SegmentTarget.from_labels(torch.arange(20) // 5, num_classes=4)
    loss = VerbNounCriterion(config, 4)(model(torch.randn(20, 5, dtype=torch.float64)), target).total
    loss.backward()
    assert loss.isfinite()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"verb_of_class": [0, 1]}, "2 verbs and 4 nouns"),
        ({"verb_of_class": [0, 1, 1, 2]}, "verb 2"),
        ({"noun_of_class": [0, 0, 2, -1]}, "noun -1"),
        ({"n_nouns": 12}, "hid_dim is 16, but the last 16 channels"),
    ],
)
def test_lists_that_do_not_fit_are_errors(small_config, changes, words):
    with pytest.raises(ConfigError, match=words):
        model_of(small_config(), **changes)
