"""Class names as text embeddings: prompted, encoded by CLIP's text tower once, then read from the store."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import WeightsError
from pipeline.settings import ExtractionSettings, TextSettings
from storage.store import Store
from storage.texts import TextEncoderIdentity, read_text_embedding, text_key, write_text_embedding

TEXT_VERSION = 1
"""Version of the code between a class name and its vector."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassTexts:
    """Embeddings of the classes of a data set."""

    vectors: NDArray[np.float32]
    """(C, W), as the encoder gave them."""
    prompts: tuple[str, ...]
    """The sentence encoded for each class."""
    encoder: TextEncoderIdentity
    random_weights: bool
    """True where the encoder's weights are seeded random numbers."""
    num_encoded: int
    """Prompts that were encoded now; the others were in the store."""


def prompts_for(names: Sequence[str], *, template: str) -> tuple[str, ...]:
    """The sentence to encode for each class; underscores are shown as blanks.

    >>> prompts_for(["short_service"], template="a video of {label}")
    ('a video of short service',)
    """
    return tuple(template.replace("{label}", name.replace("_", " ")) for name in names)
