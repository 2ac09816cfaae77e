"""Class names as text embeddings: prompted, encoded by CLIP's text tower once, then read from the store."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.inputs import clip_network, resolve_extraction
from pipeline.settings import ExtractionSettings, TextSettings
from pipeline.weights import ResolvedWeights
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

    @property
    def notices(self) -> tuple[str, ...]:
        """A plain sentence where random weights made the vectors."""
        if not self.random_weights:
            return ()
        return (
            f"Text embeddings of {self.encoder.model} come from seeded random weights, not trained ones.",
        )


def prompts_for(names: Sequence[str], *, template: str) -> tuple[str, ...]:
    """The sentence to encode for each class; underscores are shown as blanks.

    >>> prompts_for(["short_service"], template="a video of {label}")
    ('a video of short service',)
    """
    return tuple(template.replace("{label}", name.replace("_", " ")) for name in names)


def embed_classes(
    names: Sequence[str], *, text: TextSettings, extraction: ExtractionSettings, store: Store
) -> ClassTexts:
    """Embeddings of class names; only prompts that the store does not have are encoded.

    Args:
        names: C class names.
        text: Model and prompt template.
        extraction: Which weights the model gets, and the device.
        store: Where embeddings are kept.

    Raises:
        WeightsError: Real weights cannot be had; the message says what to do.
        SettingsError: open_clip knows no such model.
    """
    # open_clip takes seconds to import, and most stages need no text.
    from pipeline.clip_models import tokenizer_identity

    network = clip_network(text.model)
    weights = resolve_extraction(extraction, store=store, text_model=text.model)[network]
    encoder = TextEncoderIdentity(
        model=text.model,
        weights_digest=weights.digest,
        tokenizer=tokenizer_identity(text.model),
        version=TEXT_VERSION,
    )
    prompts = prompts_for(names, template=text.prompt)
    paths = [store.text_path(text_key(prompt, encoder=encoder)) for prompt in prompts]
    missing = [index for index, path in enumerate(paths) if not path.exists()]
    if missing:
        _encode(
            [(paths[index], names[index], prompts[index]) for index in missing],
            weights=weights,
            device=extraction.device,
        )
    return ClassTexts(
        vectors=np.stack([read_text_embedding(path) for path in paths]),
        prompts=prompts,
        encoder=encoder,
        random_weights=weights.random,
        num_encoded=len(missing),
    )


def _encode(wanted: Sequence[tuple[Path, str, str]], *, weights: ResolvedWeights, device: str) -> None:
    """Encode prompts, given as (target, class name, prompt), and store their vectors."""
    from pipeline.clip import load_clip
    from pipeline.device import choose_device

    model = load_clip(weights, device=choose_device(device))
    vectors = model.encode_texts([prompt for _, _, prompt in wanted])
    for (path, label, prompt), vector in zip(wanted, vectors, strict=True):
        write_text_embedding(path, vector, label=label, prompt=prompt, model=model.name)
