"""Class channels that ride at the end of the features (FACT.md section 3).

Axes: B batch, X steps, segments or tokens, H width, C classes.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from fact.errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassChannels:
    """Features whose class channels became probabilities, and what the channels said."""

    features: Tensor
    """(B, X, H)."""
    logits: Tensor
    """(B, X, channels)."""
    log_probs: Tensor
    """(B, X, C), or (B, X, C + 1) with the null class last."""


class Head(Protocol):
    """How classes are written into channels; holds no parameters."""

    num_classes: int
    """Classes without null."""

    def split(self, x_BXH: Tensor, *, with_null: bool) -> ClassChannels:
        """Read the class logits of the last channels and put their probabilities in their place."""
        ...

    def classes(self, features_BXH: Tensor) -> Tensor:
        """Most probable class, (B, X), of features that :meth:`split` returned for steps."""
        ...


def check_width(hidden_dim: int, channels: int) -> None:
    """Raise unless there is room for something beside the class channels."""
    if hidden_dim <= channels:
        raise ConfigError(
            f"hid_dim is {hidden_dim}, but the last {channels} channels of a token carry its classes and the "
            f"null class: hid_dim must be larger than {channels}."
        )


class ClassHead:
    """One softmax over C classes, and one more class, null, for tokens."""

    def __init__(self, num_classes: int, *, hidden_dim: int) -> None:
        if num_classes < 1:
            raise ConfigError(f"A model needs at least one class, found n_classes = {num_classes}.")
        check_width(hidden_dim, num_classes + 1)
        self.num_classes = num_classes

    def split(self, x_BXH: Tensor, *, with_null: bool) -> ClassChannels:
        """See :class:`Head`."""
        channels = self.num_classes + with_null
        logits = x_BXH[..., -channels:]
        features = torch.cat([x_BXH[..., :-channels], logits.softmax(-1)], dim=-1)
        return ClassChannels(features=features, logits=logits, log_probs=logits.log_softmax(-1))

    def classes(self, features_BXH: Tensor) -> Tensor:
        """See :class:`Head`."""
        return features_BXH[..., -self.num_classes :].argmax(-1)
