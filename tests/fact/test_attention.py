"""Attention against torch's layer and against its formula."""

import math

import pytest
import torch
from torch import nn

from fact.attention import CrossBranchAttention, SCADecoder, Sequence
from fact.multihead import MultiheadAttention

WIDTH, HEADS = 8, 2


def layers(memory_dim):
    """Ours and torch's with the same parameters."""
    torch.manual_seed(0)
    ours = MultiheadAttention(WIDTH, HEADS, dropout=0.0, memory_dim=memory_dim).double()
    theirs = nn.MultiheadAttention(
        WIDTH, HEADS, batch_first=True, kdim=memory_dim, vdim=memory_dim, dtype=torch.float64
    )
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


@pytest.mark.parametrize("padded", [True, False])
@pytest.mark.parametrize("memory_dim", [None, 5])
def test_output_and_gradients_are_those_of_torch(memory_dim, padded):
    ours, theirs = layers(memory_dim)
    query = torch.randn(2, 4, WIDTH, dtype=torch.float64, requires_grad=True)
    key, value = (torch.randn(2, 7, memory_dim or WIDTH, dtype=torch.float64) for _ in range(2))
    valid = torch.arange(7) < torch.tensor([[7], [3]]) if padded else None
    found = ours(query, key, value, valid)
    wanted, _ = theirs(query, key, value, key_padding_mask=None if valid is None else ~valid)
    torch.testing.assert_close(found, wanted)
    slopes = [
        torch.autograd.grad(out.square().sum(), [query, *layer.parameters()])
        for out, layer in ((found, ours), (wanted, theirs))
    ]
    torch.testing.assert_close(*slopes)


def test_dropout_leaves_the_mean_as_it_is():
    torch.manual_seed(0)
    layer = MultiheadAttention(WIDTH, HEADS, dropout=0.4).double()
    parts = [torch.randn(1, 5, WIDTH, dtype=torch.float64) for _ in range(3)]
    valid = torch.tensor([[True, True, True, True, False]])
    with torch.no_grad():
        draws = torch.stack([layer(*parts, valid) for _ in range(4000)])
        exact = layer.eval()(*parts, valid)
    errors = (draws.mean(0) - exact).abs() / (draws.std(0) / math.sqrt(len(draws)))
    assert draws.std(0).min() > 0
    assert errors.max() < 5


def test_a_decoder_maps_its_memory_once_for_all_layers():
    torch.manual_seed(0)
    decoder = SCADecoder(WIDTH, 6, num_layers=3, heads=HEADS, feedforward_dim=9, dropout=0.0).double()
    tokens = Sequence(
        features=torch.randn(2, 4, WIDTH, dtype=torch.float64),
        position=torch.randn(1, 4, WIDTH, dtype=torch.float64),
        valid=None,
    )
    memory = Sequence(
        features=torch.randn(2, 9, 6, dtype=torch.float64),
        position=torch.randn(1, 9, 6, dtype=torch.float64),
        valid=torch.arange(9) < torch.tensor([[9], [5]]),
    )
    x = tokens.features
    for layer in decoder.layers:
        query = x + tokens.position
        x = layer.norm1(x + layer.self_attn(query, query, x, None))
        attended = layer.multihead_attn(
            x + tokens.position, memory.features + memory.position, memory.features, memory.valid
        )
        x = layer.norm2(x + attended)
        x = layer.norm3(x + layer.linear2(torch.relu(layer.linear1(x))))
    torch.testing.assert_close(decoder(tokens, memory), decoder.out_linear(decoder.norm(x)))


@pytest.mark.parametrize(("num_sources", "num_targets"), [(9, 4), (4, 9), (5, 5)])
def test_attention_between_branches_is_its_formula(num_sources, num_targets):
    torch.manual_seed(0)
    layer = CrossBranchAttention(source_dim=6, target_dim=5, out_dim=7).double()
    x = torch.randn(2, num_sources, 6, dtype=torch.float64, requires_grad=True)
    y = torch.randn(2, num_targets, 5, dtype=torch.float64, requires_grad=True)
    valid = torch.arange(num_sources) < torch.tensor([[num_sources], [2]])
    found, logits = layer(
        Sequence(features=x, position=None, valid=valid), Sequence(features=y, position=None, valid=None)
    )
    wanted_logits = layer.Y_Q(y) @ layer.X_K(x).mT / math.sqrt(5)
    weights = wanted_logits.masked_fill(~valid[:, None], -math.inf).softmax(-1)
    wanted = layer.Y_W(torch.cat([y, weights @ layer.X_V(x)], dim=-1))
    torch.testing.assert_close(logits, wanted_logits)
    torch.testing.assert_close(found, wanted)
    inputs = [x, y, *layer.parameters()]
    slopes = [torch.autograd.grad(out.square().sum(), inputs) for out in (found, wanted)]
    torch.testing.assert_close(*slopes)
