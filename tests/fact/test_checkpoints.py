"""Published state dicts: strict in, the same out."""

import pytest
import torch

from fact.blocks import FACT
from fact.checkpoints import from_published, load_published, to_published
from fact.errors import CheckpointError


def model_of(config):
    return FACT(config, 5, 4)


def test_position_tables_and_a_data_parallel_prefix_are_left_behind(small_config):
    source, model = model_of(small_config()), model_of(small_config())
    tables = {"frame_pe.pe": torch.zeros(9, 1, 16), "action_pe.pe": torch.zeros(9, 1, 8)}
    load_published(model, {f"module.{k}": v for k, v in {**source.state_dict(), **tables}.items()})
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), source.parameters(), strict=True))


def test_a_state_dict_goes_out_under_the_names_it_came_in(golden):
    published = to_published(golden.build())
    assert set(published) == set(golden.weights)
    assert all(torch.equal(published[name], golden.weights[name]) for name in published)


def cross_attention(model):
    return "block_list.0.action_branch.layers.0.multihead_attn", model.state_dict()


def test_a_fused_projection_is_cut_where_the_model_has_three(small_config):
    # As torch stores it where keys are as wide as queries, and as an older layout could where they are not.
    model = model_of(small_config(Bi={"a_dim": 8}))
    prefix, state = cross_attention(model)
    square = {f"{prefix}.{part}": torch.randn(8, 8) for part in ("q_proj_weight",)}
    fused = {k: v for k, v in state.items() if not k.startswith(f"{prefix}.") or "proj_weight" not in k}
    fused[f"{prefix}.in_proj_weight"] = torch.cat([*square.values()] * 3)
    converted = from_published(fused, model)
    assert torch.equal(converted[f"{prefix}.q_proj_weight"], square[f"{prefix}.q_proj_weight"])
    assert f"{prefix}.in_proj_weight" not in converted


def test_three_projections_are_joined_where_the_model_has_one(small_config):
    model = model_of(small_config(Bi={"a_dim": 16}))
    prefix, state = cross_attention(model)
    separate = {k: v for k, v in state.items() if k != f"{prefix}.in_proj_weight"}
    parts = state[f"{prefix}.in_proj_weight"].chunk(3)
    names = ("q_proj_weight", "k_proj_weight", "v_proj_weight")
    separate |= {f"{prefix}.{name}": part for name, part in zip(names, parts, strict=True)}
    other = model_of(small_config(Bi={"a_dim": 16}))
    load_published(other, separate)
    assert torch.equal(other.state_dict()[f"{prefix}.in_proj_weight"], state[f"{prefix}.in_proj_weight"])


def test_every_difference_is_listed_and_nothing_is_loaded(small_config):
    model = model_of(small_config())
    state = {name: tensor + 1 for name, tensor in model.state_dict().items()}
    del state["block_list.0.frame_branch.conv_out.bias"]
    state["block_list.9.extra"] = torch.zeros(2)
    state["action_query"] = torch.zeros(3, 1, 8)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(CheckpointError) as caught:
        load_published(model, state)
    message = str(caught.value)
    assert "missing: block_list.0.frame_branch.conv_out.bias (16,)" in message
    assert "unexpected: block_list.9.extra (2,)" in message
    assert "shape: action_query is (3, 1, 8), the model has (6, 1, 8)" in message
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
