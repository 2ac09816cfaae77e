"""The contrastive loss of tokens in the whole criterion: what it adds, and what is as before without it."""

import pytest
import torch

from fact.blocks import FACT_CLIP
from fact.errors import ConfigError
from fact.loss import MatchCriterion, SegmentTarget
from tests.fact.test_losses import infonce_by_words

CLASSES, WIDTH, TEXT_WIDTH = 4, 3, 6
TEXTS = torch.nn.functional.normalize(
    torch.randn(CLASSES, TEXT_WIDTH, generator=torch.manual_seed(3)), dim=-1
)
LABELS = torch.tensor([[0, 0, 1, 1, 2, 2, 0], [3, 3, 1, 1, 0, 0, 0]])
VALID = torch.tensor([[True] * 7, [True] * 4 + [False] * 3])


@pytest.fixture
def made(small_config):
    """A function that builds a model with this weight of the loss, its criterion, output and losses."""

    def make(weight, *, features=None, valid=VALID, labels=LABELS, **sections):
        torch.manual_seed(0)
        config = small_config(
            CLIP={"token_contrastive_weight": weight, "projection_dropout": 0.0, "temp": 0.2}, **sections
        )
        model = FACT_CLIP(config, WIDTH, CLASSES, text_embeddings=TEXTS)
        if features is None:
            features = torch.randn(2, 7, WIDTH, generator=torch.manual_seed(1))
        target = SegmentTarget.from_labels(labels, valid, num_classes=CLASSES)
        given = target.transcript if model.config.model.transcript else None
        output = model(features, valid=valid, transcript=given)
        return model, output, MatchCriterion(config, n_classes=CLASSES)(output, target), target

    return make


@pytest.mark.parametrize("trans", [False, True])
def test_the_total_has_the_weighted_infonce_of_matched_tokens(made, trans):
    model, output, losses, target = made(
        0.7, FACT={"trans": trans}, Loss={"match": "seq" if trans else "o2o"}
    )
    wanted = []
    for video in range(2):
        pairs = sorted(losses.match.pairs(video))
        tokens = output.projected_tokens[video, [token for token, _ in pairs]].detach()
        classes = [target.transcripts[video][segment] for _, segment in pairs]
        wanted.append(infonce_by_words(tokens, TEXTS, classes, 0.2, set()))
    assert losses.token_contrastive.item() == pytest.approx(sum(wanted) / 2, rel=1e-5)
    total = 0.5 * losses.fact + 0.5 * losses.contrastive + 0.7 * losses.token_contrastive
    assert losses.total.item() == pytest.approx(total.item(), rel=1e-6)
    assert losses.named()["token_contrastive"] == losses.token_contrastive
    losses.total.backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in model.token_projection.parameters())


def test_without_a_weight_the_model_is_the_published_one(made):
    without, output, losses, _ = made(0.0)
    withal, *_ = made(0.7)
    assert output.projected_tokens is None
    assert losses.token_contrastive is None
    assert "token_contrastive" not in losses.named()
    more = withal.state_dict().keys() - without.state_dict().keys()
    assert more == {name for name in withal.state_dict() if name.startswith("token_projection.")} != set()
    assert all(
        torch.equal(withal.state_dict()[name], tensor) for name, tensor in without.state_dict().items()
    )


def test_class_channels_of_tokens_do_not_reach_the_projection(made):
    model, output, *_ = made(0.7)
    features = output.final.token_features.detach().clone()
    features[..., -CLASSES - 1 :] = 9.0
    again = model.token_projection(features[..., : -CLASSES - 1])
    assert torch.equal(again, output.projected_tokens)


def test_a_video_has_the_same_loss_alone_and_in_a_batch(made):
    features = torch.randn(2, 7, WIDTH, generator=torch.manual_seed(1))
    _, _, together, _ = made(0.7, features=features)
    for video, steps in enumerate(VALID.sum(1).tolist()):
        rows = slice(video, video + 1), slice(0, steps)
        _, _, alone, _ = made(0.7, features=features[rows], valid=VALID[rows], labels=LABELS[rows])
        assert together.per_video[video].item() == pytest.approx(alone.total.item(), rel=1e-5)


def test_a_negative_weight_is_an_error_that_names_the_key(made):
    with pytest.raises(
        ConfigError, match=r"CLIP\.token_contrastive_weight must not be negative, found -1\.0"
    ):
        made(-1.0)


def test_the_rule_of_texts_takes_price_and_bias_from_the_configuration(small_config):
    def predicted(clip, **given):
        torch.manual_seed(0)
        config = small_config(CLIP={"temp": 0.02, **clip}, holdout_mode=True, holdout_classes=[2])
        model = FACT_CLIP(config, WIDTH, CLASSES, text_embeddings=TEXTS).eval()
        features = 40 * torch.randn(1, 30, WIDTH, generator=torch.manual_seed(1))
        return model.eval_with_clip(features, **given).labels, model.predict_texts(
            features, TEXTS, **given
        ).labels

    free, free_texts = predicted({"switch_cost": 0.0})
    dear, dear_texts = predicted({"switch_cost": 1e6})
    assert len(free.unique()) > 1
    assert len(dear.unique()) == len(dear_texts.unique()) == 1
    assert torch.equal(free, predicted({"switch_cost": 1e6}, switch_cost=0.0)[0])
    assert torch.equal(free_texts, predicted({"switch_cost": 1e6}, switch_cost=0.0)[1])
    assert (predicted({"unseen_bias": 1e3})[0] == 2).all()
    assert not (predicted({"unseen_bias": -1e3})[0] == 2).any()
