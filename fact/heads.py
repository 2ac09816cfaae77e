"""Class channels that ride at the end of the features (FACT.md section 3).

Axes: B batch, X steps, segments or tokens, H width, C classes.
"""

from collections.abc import Sequence
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


class VerbNounHead:
    """A softmax over verbs and one over nouns; a class is a listed pair of both (FACT.md section 9)."""

    def __init__(
        self,
        verb_of_class: Sequence[int],
        noun_of_class: Sequence[int],
        *,
        num_verbs: int,
        num_nouns: int,
        hidden_dim: int,
    ) -> None:
        _check_pairs(verb_of_class, noun_of_class, num_verbs=num_verbs, num_nouns=num_nouns)
        check_width(hidden_dim, num_verbs + num_nouns + 2)
        self.num_classes = len(verb_of_class)
        self.num_verbs = num_verbs
        self.num_nouns = num_nouns
        self._verbs = torch.tensor([*verb_of_class, num_verbs])
        self._nouns = torch.tensor([*noun_of_class, num_nouns])

    def pairs(self, device: torch.device, *, with_null: bool) -> tuple[Tensor, Tensor]:
        """Verb and noun of each class, (C,) each, or (C + 1,) with those of null, without waiting for the device."""
        count = self.num_classes + with_null
        verbs_C, nouns_C = self._verbs[:count], self._nouns[:count]
        return verbs_C.to(device, non_blocking=True), nouns_C.to(device, non_blocking=True)

    def split(self, x_BXH: Tensor, *, with_null: bool) -> ClassChannels:
        """See :class:`Head`."""
        sizes = [self.num_verbs + with_null, self.num_nouns + with_null]
        logits = x_BXH[..., -sum(sizes) :]
        verb, noun = torch.split(logits, sizes, dim=-1)
        rest = x_BXH[..., : -sum(sizes)]
        return ClassChannels(
            features=torch.cat([rest, verb.softmax(-1), noun.softmax(-1)], dim=-1),
            logits=logits,
            log_probs=self._pair(verb.log_softmax(-1), noun.log_softmax(-1), with_null=with_null),
        )

    def _pair(self, verb: Tensor, noun: Tensor, *, with_null: bool) -> Tensor:
        """Log-probability of each class, the sum of its verb's and its noun's; null is both nulls."""
        verbs_C, nouns_C = self.pairs(verb.device, with_null=with_null)
        return verb.index_select(-1, verbs_C) + noun.index_select(-1, nouns_C)

    def classes(self, features_BXH: Tensor) -> Tensor:
        """See :class:`Head`."""
        probs = features_BXH[..., -(self.num_verbs + self.num_nouns) :]
        verb, noun = torch.split(probs, [self.num_verbs, self.num_nouns], dim=-1)
        verbs_C, nouns_C = self.pairs(probs.device, with_null=False)
        return (verb.index_select(-1, verbs_C) * noun.index_select(-1, nouns_C)).argmax(-1)


def _check_pairs(
    verb_of_class: Sequence[int], noun_of_class: Sequence[int], *, num_verbs: int, num_nouns: int
) -> None:
    if len(verb_of_class) != len(noun_of_class) or not verb_of_class:
        raise ConfigError(
            f"Each class needs a verb and a noun, found {len(verb_of_class)} verbs and "
            f"{len(noun_of_class)} nouns."
        )
    for what, ids, count in (("verb", verb_of_class, num_verbs), ("noun", noun_of_class, num_nouns)):
        wrong = [index for index in ids if not 0 <= index < count]
        if wrong:
            raise ConfigError(f"A class has {what} {wrong[0]}, but the {what}s are 0 to {count - 1}.")
