"""Our convolutions against torch's, forward and backward."""

import pytest
import torch
from torch import nn
from torch.autograd import gradcheck

from fact.convolution import DilatedConv, PointConv, join_convolutions, sum_of_taps

layouts = pytest.mark.parametrize(
    ("num_steps", "dilation", "groups"), [(9, 1, 1), (9, 4, 1), (9, 2, 4), (3, 64, 2), (1, 1, 1)]
)


def pair_of(dilation, groups):
    """Our convolution and torch's with the same parameters."""
    torch.manual_seed(0)
    ours = DilatedConv(8, dilation=dilation, groups=groups).double()
    theirs = nn.Conv1d(8, 8, 3, padding=dilation, dilation=dilation, groups=groups).double()
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


def both(ours, theirs, x):
    return ours(x), theirs(x.transpose(1, 2)).transpose(1, 2)


@layouts
def test_output_and_gradients_are_those_of_torch(num_steps, dilation, groups):
    ours, theirs = pair_of(dilation, groups)
    inputs = [torch.randn(2, num_steps, 8, dtype=torch.float64).requires_grad_() for _ in range(2)]
    with torch.no_grad():
        inputs[1].copy_(inputs[0])
    found, wanted = ours(inputs[0]), theirs(inputs[1].transpose(1, 2)).transpose(1, 2)
    torch.testing.assert_close(found, wanted)
    weights = torch.randn_like(found)
    (found * weights).sum().backward()
    (wanted * weights).sum().backward()
    torch.testing.assert_close(inputs[0].grad, inputs[1].grad)
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)


def test_gradients_are_the_slopes():
    ours, _ = pair_of(2, 2)
    assert gradcheck(ours, torch.randn(2, 5, 8, dtype=torch.float64, requires_grad=True))


@layouts
def test_an_output_may_be_changed_in_place(num_steps, dilation, groups):
    ours, theirs = pair_of(dilation, groups)
    x = torch.randn(1, num_steps, 8, dtype=torch.float64)
    found, wanted = (torch.relu_(out) for out in both(ours, theirs, x))
    torch.testing.assert_close(found, wanted)
    slopes = [
        torch.autograd.grad(out.sum(), [*conv.parameters()])
        for out, conv in ((found, ours), (wanted, theirs))
    ]
    torch.testing.assert_close(*slopes)


def test_a_frozen_kernel_gets_no_gradient_and_passes_one_on():
    ours, _ = pair_of(1, 1)
    ours.weight.requires_grad_(requires_grad=False)
    x = torch.randn(1, 4, 8, dtype=torch.float64, requires_grad=True)
    ours(x).sum().backward()
    assert ours.weight.grad is None
    assert x.grad.any()


def test_parameters_start_as_those_of_torch():
    torch.manual_seed(5)
    ours = DilatedConv(6, dilation=3, groups=1).state_dict()
    torch.manual_seed(5)
    theirs = nn.Conv1d(6, 6, 3, dilation=3).state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_autocast_multiplies_in_bfloat16_and_leaves_float32_gradients():
    torch.manual_seed(0)
    ours = DilatedConv(8, dilation=2, groups=1)
    x = torch.randn(1, 7, 8, requires_grad=True)
    exact = ours(x)
    with torch.autocast("cpu", torch.bfloat16):
        rough = ours(x)
    rough.sum().backward()
    assert rough.dtype == torch.bfloat16
    assert x.grad.dtype == ours.weight.grad.dtype == ours.bias.grad.dtype == torch.float32
    torch.testing.assert_close(rough.float(), exact, atol=0.02, rtol=0.02)


def test_a_point_convolution_is_that_of_torch():
    ours = PointConv(5, 3).double()
    theirs = nn.Conv1d(5, 3, 1).double()
    theirs.load_state_dict(ours.state_dict())
    torch.testing.assert_close(*both(ours, theirs, torch.randn(2, 7, 5, dtype=torch.float64)))


@pytest.mark.parametrize("num_steps", [1, 3, 20])
@pytest.mark.parametrize("groups", [1, 2])
def test_joined_convolutions_are_those_of_torch_one_after_the_other(num_steps, groups):
    torch.manual_seed(0)
    far, near = [pair_of(8, groups), pair_of(4, groups)], [pair_of(2, groups), pair_of(1, groups)]
    fusions = [(PointConv(16, 8).double(), nn.Conv1d(16, 8, 1).double()) for _ in far]
    for ours, theirs in fusions:
        theirs.load_state_dict(ours.state_dict())
    # Parameters of their own: ``pair_of`` starts all pairs alike.
    for ours, theirs in (*far, *near):
        nn.init.normal_(ours.weight)
        theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, num_steps, 8, dtype=torch.float64, requires_grad=True)
    found = wanted = x
    layers = list(zip(far, near, fusions, strict=True))
    for joined in join_convolutions([tuple(ours for ours, _ in layer) for layer in layers]):
        found = sum_of_taps(found, *joined)
    for (_, first), (_, second), (_, fusion) in layers:
        steps_last = wanted.transpose(1, 2)
        wanted = fusion(torch.cat([first(steps_last), second(steps_last)], dim=1)).transpose(1, 2)
    torch.testing.assert_close(found, wanted)
    weights = torch.randn_like(wanted)
    slopes = []
    for side, out in enumerate((found, wanted)):
        modules = [pair[side] for layer in layers for pair in layer]
        parameters = [parameter for module in modules for parameter in module.parameters()]
        slopes.append(torch.autograd.grad((out * weights).sum(), [x, *parameters]))
    torch.testing.assert_close(*slopes)
