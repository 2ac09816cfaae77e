"""Bidirectional GRUs over padded batches."""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence


def run_gru(gru: nn.GRU, x_BXH: Tensor, lengths: Sequence[int]) -> Tensor:
    """Output of a batch-first GRU, (B, X, out), whose backward pass starts at each sequence's own end."""
    longest = x_BXH.shape[1]
    if all(length == longest for length in lengths):
        out_BXH: Tensor = gru(x_BXH)[0]
        return out_BXH
    packed = pack_padded_sequence(x_BXH, list(lengths), batch_first=True, enforce_sorted=False)
    padded, _ = pad_packed_sequence(gru(packed)[0], batch_first=True, total_length=longest)
    return padded
