"""Bidirectional GRUs over padded batches.

Axes: B batch, X entries of a sequence, H width, L layers and directions.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

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
    if valid_BX is None:
        with _quietly_compacted():
            out_BXH: Tensor = gru(x_BXH)[0]
        return out_BXH
    hold_BXS = nn.functional.pad((~valid_BX)[..., None].to(x_BXH.dtype), (0, _SPARE - 1))
    for layer in range(gru.num_layers):
        if layer:
            x_BXH = nn.functional.dropout(x_BXH, gru.dropout, gru.training)
        weights = [w for suffix in ("", "_reverse") for w in _weights(gru, f"l{layer}{suffix}")]
        start_LBH = x_BXH.new_zeros(2, len(x_BXH), gru.hidden_size)
        x_BXH = _run_layer(torch.cat([x_BXH, hold_BXS], dim=-1), start_LBH, weights, training=gru.training)
    return x_BXH


def _run_layer(x_BXH: Tensor, start_LBH: Tensor, weights: list[Tensor], *, training: bool) -> Tensor:
    """One bidirectional layer, (B, X, out)."""
    # Biases, one layer, no dropout after it, both directions, batch first.
    how = (True, 1, 0.0, training, True, True)
    if not x_BXH.is_cuda:
        return torch.gru(x_BXH, start_LBH, weights, *how)[0]
    with _quietly_compacted():
        return torch.gru(x_BXH, start_LBH, weights, *how)[0]


@contextmanager
def _quietly_compacted() -> Iterator[None]:
    """Without the warning that cuDNN copies weights together at every call: they were extended or cast just now."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="RNN module weights are not part of single contiguous")
        yield


def _weights(gru: nn.GRU, name: str) -> list[Tensor]:
    """Weights of a layer in one direction, the first with columns for the channel that holds the state."""
    first = getattr(gru, f"weight_ih_{name}")
    # Gates lie one below the other: reset, update, new.
    columns = nn.functional.pad(
        first.new_full((gru.hidden_size, 1), _HOLD), (0, _SPARE - 1, gru.hidden_size, gru.hidden_size)
    )
    rest = [getattr(gru, f"{kind}_{name}") for kind in ("weight_hh", "bias_ih", "bias_hh")]
    return [torch.cat([first, columns], dim=1), *rest]
