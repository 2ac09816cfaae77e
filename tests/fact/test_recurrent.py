"""GRUs over padded batches against torch's packed sequences."""

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from fact.recurrent import run_gru

LENGTHS = [9, 4, 1]


@pytest.fixture(params=[1, 2])
def gru(request):
    torch.manual_seed(0)
    return nn.GRU(6, 4, request.param, batch_first=True, bidirectional=True).double()


def packed(gru, x):
    out, _ = gru(pack_padded_sequence(x, LENGTHS, batch_first=True))
    return pad_packed_sequence(out, batch_first=True, total_length=x.shape[1])[0]


def test_padding_changes_neither_outputs_nor_gradients(gru):
    x = torch.randn(3, 9, 6, dtype=torch.float64, requires_grad=True)
    valid = torch.arange(9) < torch.tensor(LENGTHS)[:, None]
    found, wanted = run_gru(gru, x, valid), packed(gru, x)
    torch.testing.assert_close(found[valid], wanted[valid], atol=1e-12, rtol=1e-12)
    weights = torch.randn_like(wanted) * valid[..., None]
    inputs = [x, *gru.parameters()]
    slopes = [torch.autograd.grad((out * weights).sum(), inputs) for out in (found, wanted)]
    for one, other in zip(*slopes, strict=True):
        torch.testing.assert_close(one, other, atol=1e-12, rtol=1e-12)
    assert not slopes[0][0][~valid].any()


def test_what_lies_on_padding_does_not_matter(gru):
    x = torch.randn(3, 9, 6, dtype=torch.float64)
    valid = torch.arange(9) < torch.tensor(LENGTHS)[:, None]
    other = x.where(valid[..., None], 100.0)
    torch.testing.assert_close(run_gru(gru, x, valid)[valid], run_gru(gru, other, valid)[valid])


def test_without_padding_it_is_the_layer_itself(gru):
    x = torch.randn(2, 5, 6, dtype=torch.float64, requires_grad=True)
    found, wanted = run_gru(gru, x, None), gru(x)[0]
    torch.testing.assert_close(found, wanted, atol=1e-12, rtol=1e-12)
    weights, inputs = torch.randn_like(wanted), [x, *gru.parameters()]
    slopes = [torch.autograd.grad((out * weights).sum(), inputs) for out in (found, wanted)]
    torch.testing.assert_close(*slopes, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_state_is_held_in_narrow_types_too(gru, dtype):
    x = torch.randn(3, 9, 6).to(dtype)
    valid = torch.arange(9) < torch.tensor(LENGTHS)[:, None]
    narrow = run_gru(gru.to(dtype), x, valid).double()
    exact = packed(gru.double(), x.double())
    torch.testing.assert_close(narrow[valid], exact[valid], atol=0.05, rtol=0.05)
