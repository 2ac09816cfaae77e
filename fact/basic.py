"""The building blocks by the name users know; each lives in a file of its own kind."""

from fact.attention import (
    CrossBranchAttention,
    GRUDecoder,
    SADecoder,
    SALayer,
    SCADecoder,
    SCALayer,
    Sequence,
)
from fact.masking import mask_channels, mask_time
from fact.positions import add_position, sinusoid
from fact.temporal_conv import MSTCN, MSTCN2, DilatedResidualLayer

__all__ = [
    "MSTCN",
    "MSTCN2",
    "CrossBranchAttention",
    "DilatedResidualLayer",
    "GRUDecoder",
    "SADecoder",
    "SALayer",
    "SCADecoder",
    "SCALayer",
    "Sequence",
    "add_position",
    "mask_channels",
    "mask_time",
    "sinusoid",
]
