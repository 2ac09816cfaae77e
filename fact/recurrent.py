"""Bidirectional GRUs over padded batches.

Axes: B batch, X entries of a sequence, H width, L layers and directions, D directions, G the three gates: reset, update
and new, W width of one gate.
"""

import warnings
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

_HOLD = 1e4
"""Drives an update gate to exactly 1 in every number format, float16 included."""
_SPARE = 8
"""Channels added to the input, one of them used: devices multiply widths of 16 bytes' multiples faster."""


def run_gru(gru: nn.GRU, x_BXH: Tensor, valid_BX: Tensor | None) -> Tensor:
    """Output of a batch-first GRU, (B, X, out), whose backward pass starts at each sequence's own end.

    Padding, which lies at the end, holds the state: a channel that is 1 there opens the update gate, so the
    backward pass reaches the last valid entry with the state it began with, zero. Unlike a packed sequence this
    needs no length on the host.
    """
    hold_BXS = None
    if valid_BX is not None:
        hold_BXS = nn.functional.pad((~valid_BX)[..., None].to(x_BXH.dtype), (0, _SPARE - 1))
    for layer in range(gru.num_layers):
        if layer:
            x_BXH = nn.functional.dropout(x_BXH, gru.dropout, gru.training)
        names = f"l{layer}", f"l{layer}_reverse"
        weights = [w for name in names for w in _weights(gru, name, holds=hold_BXS is not None)]
        x_BXH = x_BXH if hold_BXS is None else torch.cat([x_BXH, hold_BXS], dim=-1)
        run = _run_layer_of_torch if x_BXH.is_cuda else _run_layer
        x_BXH = run(x_BXH, weights, training=gru.training)
    return x_BXH


def _weights(gru: nn.GRU, name: str, *, holds: bool) -> list[Tensor]:
    """Weights of a layer in one direction, the first with columns for the channel that holds the state."""
    kinds = "weight_ih", "weight_hh", "bias_ih", "bias_hh"
    first, *rest = (getattr(gru, f"{kind}_{name}") for kind in kinds)
    if not holds:
        return [first, *rest]
    # Gates lie one below the other: reset, update, new.
    columns = nn.functional.pad(
        first.new_full((gru.hidden_size, 1), _HOLD), (0, _SPARE - 1, gru.hidden_size, gru.hidden_size)
    )
    return [torch.cat([first, columns], dim=1), *rest]


def _run_layer_of_torch(x_BXH: Tensor, weights: list[Tensor], *, training: bool) -> Tensor:
    """One bidirectional layer, (B, X, out), by cuDNN."""
    start_LBH = x_BXH.new_zeros(2, len(x_BXH), weights[1].shape[1])
    # Biases, one layer, no dropout after it, both directions, batch first.
    how = (True, 1, 0.0, training, True, True)
    with warnings.catch_warnings():
        # cuDNN copies the weights together at every call, which is meant: they were extended just now.
        warnings.filterwarnings("ignore", message="RNN module weights are not part of single contiguous")
        return torch.gru(x_BXH, start_LBH, weights, *how)[0]


def _run_layer(x_BXH: Tensor, weights: list[Tensor], *, training: bool) -> Tensor:
    """One bidirectional layer, (B, X, out), on a CPU.

    There torch takes the gradient of the recurrent weights entry by entry, each a product as large as they are, and
    one direction after the other: six times as long as this for 64 entries of width 512.
    """
    del training
    linear = nn.functional.linear
    ahead_XBG = linear(x_BXH, weights[0], weights[2]).transpose(0, 1)
    back_XBG = linear(x_BXH, weights[4], weights[6]).transpose(0, 1)
    inputs_XDBG = torch.stack([ahead_XBG, back_XBG.flip(0)], dim=1)
    recurrent_DGW, bias_DG = torch.stack([weights[1], weights[5]]), torch.stack([weights[3], weights[7]])
    states_XDBW: Tensor = _Recurrence.apply(inputs_XDBG, recurrent_DGW, bias_DG)
    ahead_XBW, back_XBW = states_XDBW.unbind(1)
    return torch.cat([ahead_XBW, back_XBW.flip(0)], dim=-1).transpose(0, 1)


class _Recurrence(torch.autograd.Function):
    """States of a GRU, (X, D, B, W), of what its input adds to the gates; all directions at once."""

    @staticmethod
    @torch.amp.custom_fwd(device_type="cpu", cast_inputs=torch.float32)  # type: ignore[untyped-decorator]
    def forward(ctx: Any, inputs_XDBG: Tensor, recurrent_DGW: Tensor, bias_DG: Tensor) -> Tensor:  # noqa: ANN401 - torch's context has no type
        """Entry after entry; what the backward pass needs of each is kept."""
        width = recurrent_DGW.shape[2]
        matrix_DWG, bias_D1G = recurrent_DGW.mT.contiguous(), bias_DG[:, None]
        gates_XDBG = torch.empty_like(inputs_XDBG)
        news_XDBW = inputs_XDBG.new_empty(*inputs_XDBG.shape[:3], width)
        states_XDBW = torch.empty_like(news_XDBW)
        state_DBW = torch.zeros_like(states_XDBW[0])
        for inputs, gates, news, states in zip(inputs_XDBG, gates_XDBG, news_XDBW, states_XDBW, strict=True):
            recurrent_DBG = torch.baddbmm(bias_D1G, state_DBW, matrix_DWG)
            torch.add(inputs, recurrent_DBG, out=gates)
            reset_update, new = gates[..., : 2 * width].sigmoid_(), gates[..., 2 * width :]
            news.copy_(recurrent_DBG[..., 2 * width :])
            torch.addcmul(inputs[..., 2 * width :], reset_update[..., :width], news, out=new).tanh_()
            state_DBW = torch.lerp(new, state_DBW, reset_update[..., width:], out=states)
        ctx.save_for_backward(gates_XDBG, news_XDBW, states_XDBW, recurrent_DGW)
        return states_XDBW

    @staticmethod
    @once_differentiable
    @torch.amp.custom_bwd(device_type="cpu")  # type: ignore[untyped-decorator]
    def backward(ctx: Any, grad_XDBW: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]  # noqa: ANN401 - as above
        """Only what depends on the next entry is computed entry by entry; weights take all entries in one product."""
        gates_XDBG, news_XDBW, states_XDBW, recurrent_DGW = ctx.saved_tensors
        reset, update, new = gates_XDBG.chunk(3, dim=-1)
        before = torch.cat([torch.zeros_like(states_XDBW[:1]), states_XDBW[:-1]])
        slope_new = (1 - update) * (1 - new.square())
        slope_reset = slope_new * news_XDBW * reset * (1 - reset)
        slope_update = (before - new) * update * (1 - update)
        slopes = torch.stack([slope_reset, slope_update, slope_new * reset], dim=-2)
        grads_XDB1W = torch.empty_like(grad_XDBW)[..., None, :]
        recurrents = torch.empty_like(slopes)
        carried_DBW = torch.zeros_like(grad_XDBW[0])
        for entry in reversed(range(len(grad_XDBW))):
            grad = torch.add(grad_XDBW[entry], carried_DBW, out=grads_XDB1W[entry, ..., 0, :])
            torch.mul(grad[..., None, :], slopes[entry], out=recurrents[entry])
            carried_DBW = torch.baddbmm(grad * update[entry], recurrents[entry].flatten(-2), recurrent_DGW)
        inputs = (grads_XDB1W * torch.stack([slope_reset, slope_update, slope_new], dim=-2)).flatten(-2)
        recurrents_DRG = recurrents.flatten(-2).transpose(0, 1).flatten(1, 2)
        before_DRW = before.transpose(0, 1).flatten(1, 2)
        return inputs, torch.bmm(recurrents_DRG.mT, before_DRW), recurrents_DRG.sum(1)
