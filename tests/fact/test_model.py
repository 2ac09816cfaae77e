"""What the models promise beside their numbers: no state, odd input, masks, gradients."""

import copy
import io
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

from fact.blocks import FACT, FACT_CLIP
from fact.config import recipe
from fact.errors import ConfigError, FeatureError, MatchError
from fact.loss import MatchCriterion, SegmentTarget

CLASSES, WIDTH = 4, 5


def model_of(config, **kinds):
    torch.manual_seed(0)
    return FACT(config, WIDTH, CLASSES, **kinds)


def total(model, features, labels, **loss):
    target = SegmentTarget.from_labels(labels, num_classes=CLASSES)
    criterion = MatchCriterion(model.config, CLASSES, **loss)
    transcript = target.transcript if model.config.model.transcript else None
    return criterion(model(features, transcript=transcript), target).total


def labels_of(num_steps):
    return torch.arange(num_steps) // 4 % CLASSES


# State


def test_a_forward_pass_leaves_nothing_on_any_module(small_config):
    model = model_of(small_config(TM={"use": True}, FACT={"cmr": 0.5}))
    before = {name: set(vars(module)) for name, module in model.named_modules()}
    total(model, torch.randn(20, WIDTH), labels_of(20)).backward()
    model.eval().predict(torch.randn(9, WIDTH))
    assert {name: set(vars(module)) for name, module in model.named_modules()} == before


def test_a_deep_copy_made_after_training_answers_the_same(small_config):
    model, features = model_of(small_config()), torch.randn(20, WIDTH)
    total(model, features, labels_of(20)).backward()
    twin = copy.deepcopy(model).eval()
    assert torch.equal(twin.predict(features).scores, model.eval().predict(features).scores)


def test_a_saved_state_dict_restores_the_answer(small_config):
    model, file, features = model_of(small_config()).eval(), io.BytesIO(), torch.randn(20, WIDTH)
    torch.save(model.state_dict(), file)
    other = FACT(small_config(), WIDTH, CLASSES).eval()
    other.load_state_dict(torch.load(io.BytesIO(file.getvalue()), weights_only=True))
    assert torch.equal(other.predict(features).scores, model.predict(features).scores)


def test_a_whole_model_and_its_output_survive_pickling(small_config):
    model, features, file = model_of(small_config()).eval(), torch.randn(20, WIDTH), io.BytesIO()
    torch.save((model, model(features)), file)
    twin, output = torch.load(io.BytesIO(file.getvalue()), weights_only=False)
    assert torch.equal(twin.predict(features).scores, model.predict(features).scores)
    assert torch.equal(output.final.frame_logits, model(features).final.frame_logits)


def test_threads_share_a_model(small_config):
    model = model_of(small_config()).eval()
    videos = [torch.randn(5 + n, WIDTH) for n in range(24)]
    alone = [model.predict(video).scores for video in videos]
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(lambda video: model.predict(video).scores, videos))
    assert all(torch.equal(a, b) for a, b in zip(alone, together, strict=True))


def test_the_configuration_is_not_edited(small_config):
    config = small_config()
    before = copy.deepcopy(config)
    model_of(config)
    MatchCriterion(config, CLASSES)
    assert config == before


# Input


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_features_that_are_not_finite_name_video_and_row(small_config, bad):
    features = torch.zeros(2, 6, WIDTH)
    features[1, 3, 2] = bad
    with pytest.raises(FeatureError, match=r"Video 1 .* 1 rows, the first is row 3"):
        model_of(small_config())(features)


@pytest.mark.parametrize(
    ("features", "valid", "words"),
    [
        (torch.zeros(0, WIDTH), None, "hold no step"),
        (torch.zeros(4, WIDTH + 1), None, r"\(T, 5\), found \(1, 4, 6\)"),
        (torch.zeros(4, WIDTH, dtype=torch.long), None, "floating-point"),
        (torch.zeros(1, 1, 4, WIDTH), None, "found"),
        (torch.zeros(2, 3, WIDTH), torch.tensor([[True] * 3, [False] * 3]), "Video 1 .* no valid step"),
        (torch.zeros(1, 3, WIDTH), torch.tensor([[True, False, True]]), "between valid steps"),
        (torch.zeros(1, 3, WIDTH), torch.ones(1, 2, dtype=torch.bool), "valid must be"),
        (torch.zeros(1, 3, WIDTH), torch.ones(1, 3), "valid must be a bool"),
    ],
)
def test_features_that_do_not_fit_are_errors(small_config, features, valid, words):
    with pytest.raises(FeatureError, match=words):
        model_of(small_config())(features, valid)


@pytest.mark.parametrize(
    ("transcript", "words"),
    [
        (None, "give transcript="),
        (torch.tensor([0, CLASSES]), "class 4"),
        (torch.tensor([[-1, 0]]), "empty or padded"),
        (torch.tensor([[-1]]), "empty or padded"),
        (torch.tensor([[0], [1]]), r"\(1, S\)"),
        (torch.tensor([0.5]), "integer"),
    ],
)
def test_transcripts_that_do_not_fit_are_errors(small_config, transcript, words):
    model = model_of(small_config(FACT={"trans": True, "ntoken": 0}, Loss={"match": "seq"}))
    with pytest.raises(FeatureError, match=words):
        model(torch.randn(5, WIDTH), transcript=transcript)


def test_no_room_for_the_classes_names_both_numbers(small_config):
    with pytest.raises(ConfigError, match="hid_dim is 16, but the last 16 channels"):
        FACT(small_config(), WIDTH, 15)
    FACT(small_config(), WIDTH, 14)


def test_the_verb_noun_block_is_refused_by_name():
    with pytest.raises(ConfigError, match="'I' belongs to the verb/noun variant"):
        FACT(recipe("epic-kitchens"), WIDTH, CLASSES)


@pytest.mark.parametrize("block", ["iu", "iU", "iuU"])
@pytest.mark.parametrize("num_steps", [1, 2, 3])
def test_videos_of_few_steps_train_and_are_labelled(small_config, block, num_steps):
    # The largest dilation of the small configuration is 4.
    model = model_of(small_config(FACT={"block": block}))
    loss = total(model, torch.randn(num_steps, WIDTH), labels_of(num_steps))
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    assert model.eval().predict(torch.randn(num_steps, WIDTH)).labels.shape == (1, num_steps)


@pytest.mark.parametrize("branch", ["m", "m2"])
def test_a_video_shorter_than_every_large_dilation_is_as_if_zeros_surrounded_it(small_config, branch):
    # Ten layers as published look up to 512 steps away; alone, and padded to more steps than that.
    kinds = {"f": branch, "f_layers": 10}
    model = model_of(small_config(FACT={"block": "iuU"}, Bi=kinds, Bu=kinds, BU=kinds)).double().eval()
    features = torch.randn(3, WIDTH, dtype=torch.float64)
    padded, valid = torch.zeros(1, 1200, WIDTH, dtype=torch.float64), torch.arange(1200)[None] < 3
    padded[0, :3] = features
    found = model(padded, valid).final.frame_logits[:, :3]
    torch.testing.assert_close(found, model(features).final.frame_logits, atol=1e-9, rtol=1e-9)


def test_a_class_absent_from_training_stays_predictable_and_finite(small_config):
    config = small_config(CLIP={"temp": 0.1})
    torch.manual_seed(0)
    model = FACT_CLIP(config, WIDTH, CLASSES, text_embeddings=torch.eye(CLASSES))
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    features, labels = torch.randn(24, WIDTH), torch.arange(24) // 6 % 2  # classes 2 and 3 never occur
    for _ in range(30):
        optimizer.zero_grad()
        loss = total(model, features, labels)
        loss.backward()
        optimizer.step()
    assert loss.isfinite()
    for prediction in (model.eval().predict(features), model.eval_with_clip(features)):
        assert prediction.scores.isfinite().all()
        assert set(prediction.labels.unique().tolist()) <= {0, 1}
        torch.testing.assert_close(prediction.scores.sum(-1), torch.ones(1, 24))


@pytest.mark.parametrize("scale", [1e-30, 1e6])
def test_features_of_any_size_keep_losses_and_gradients_finite(small_config, scale):
    model = model_of(small_config())
    loss = total(model, scale * torch.randn(15, WIDTH), labels_of(15))
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_weights_that_are_not_finite_are_an_error_of_the_matching(small_config):
    model = model_of(small_config())
    with torch.no_grad():
        model.block_list[0].frame_branch.conv_out.bias.fill_(torch.nan)
    with pytest.raises(MatchError, match=r"video 0 .* not finite"):
        total(model, torch.randn(9, WIDTH), labels_of(9))


@pytest.mark.parametrize("rule", ["o2o", "o2m"])
@pytest.mark.parametrize(
    "labels",
    [
        torch.zeros(12, dtype=torch.long),
        torch.full((12,), 3),
        torch.arange(12) % CLASSES,
    ],
    ids=["one segment, all background", "one segment, other classes absent", "more segments than tokens"],
)
def test_odd_labels_have_a_finite_loss_and_gradient(small_config, rule, labels):
    config = small_config(Loss={"match": rule, "bgw": 0.0}, FACT={"ntoken": 3, "block": "iuU"})
    model = model_of(config)
    loss = total(model, torch.randn(12, WIDTH), labels)
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


# Training


def without_gradient(model):
    """Parameters without gradient after ten videos, but those that cannot have one at the start."""
    for _ in range(10):
        total(model, 3 * torch.randn(24, WIDTH), labels_of(24)).backward()
    # Tokens start as zero and biases of attention too, so the first self-attention passes zeros on.
    first = "block_list.0.action_branch.layers.0"
    names = ("self_attn.in_proj_weight", "self_attn.out_proj.weight", "norm1.weight")
    zeros = {f"{first}.{name}" for name in names}
    parameters = model.named_parameters()
    return {name for name, p in parameters if p.grad is None or not p.grad.any()} - zeros


@pytest.mark.parametrize("branch", ["m", "m2"])
@pytest.mark.parametrize("block", ["iu", "iuU"])
def test_every_parameter_gets_a_gradient(small_config, block, branch):
    assert without_gradient(model_of(small_config(FACT={"block": block}, Bi={"f": branch}))) == set()


def test_every_parameter_of_the_clip_model_gets_a_gradient(small_config):
    torch.manual_seed(0)
    model = FACT_CLIP(small_config(), WIDTH, CLASSES, text_embeddings=torch.randn(CLASSES, 6))
    assert without_gradient(model) == set()


def test_a_small_model_learns_its_training_video(small_config):
    config = small_config(FACT={"ntoken": 12}, Bi={"hid_dim": 32, "a_dim": 16, "f_dim": 16})
    model, labels = model_of(config), labels_of(32)
    features = nn.functional.one_hot(labels, WIDTH).float() + 0.1 * torch.randn(32, WIDTH)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(120):
        optimizer.zero_grad()
        total(model, features, labels).backward()
        optimizer.step()
    assert (model.eval().predict(features).labels[0] == labels).float().mean() > 0.95


def test_training_draws_from_the_given_generator_and_leaves_the_input_alone(small_config):
    config = small_config(FACT={"cmr": 0.5}, TM={"use": True, "t": 9, "p": 0.5, "m": 3})
    model, features = model_of(config), torch.randn(2, 20, WIDTH)
    before = features.clone()
    runs = [model(features, generator=torch.Generator().manual_seed(seed)) for seed in (5, 5, 6)]
    logits = [run.final.frame_logits for run in runs]
    assert torch.equal(features, before)
    assert torch.equal(logits[0], logits[1])
    assert not torch.equal(logits[0], logits[2])


def test_the_global_seed_reproduces_training(small_config):
    model = model_of(small_config(FACT={"cmr": 0.5}, Bi={"dropout": 0.3}))
    losses = []
    for _ in range(2):
        torch.manual_seed(3)
        losses.append(total(model, torch.ones(20, WIDTH), labels_of(20)).item())
    assert losses[0] == losses[1]


def test_evaluation_masks_nothing(small_config):
    model = model_of(small_config(FACT={"cmr": 0.5}, Bi={"dropout": 0.3}, TM={"use": True})).eval()
    features = torch.randn(20, WIDTH)
    assert torch.equal(model(features).final.frame_logits, model(features).final.frame_logits)


def test_positions_reach_beyond_any_table(small_config):
    model = model_of(small_config(FACT={"fpos": True})).eval()
    assert model.predict(torch.randn(6000, WIDTH)).labels.shape == (1, 6000)


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        (torch.ones(CLASSES + 1, 6), "4 classes"),
        (torch.ones(CLASSES), "4 classes"),
        (torch.zeros(CLASSES, 6), "zero or not finite"),
        (torch.full((CLASSES, 6), torch.nan), "zero or not finite"),
    ],
)
def test_texts_that_do_not_fit_are_errors(small_config, texts, words):
    with pytest.raises(ConfigError, match=words):
        FACT_CLIP(small_config(), WIDTH, CLASSES, text_embeddings=texts)


def test_texts_are_kept_as_unit_rows(small_config):
    model = FACT_CLIP(small_config(), WIDTH, CLASSES, text_embeddings=3 * torch.randn(CLASSES, 6))
    torch.testing.assert_close(model.text_embeddings.norm(dim=-1), torch.ones(CLASSES))
    assert "text_embeddings" in model.state_dict()
