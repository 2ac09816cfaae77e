"""Classes as text embeddings: sentences that a text model encodes once, and that are read from the store after."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.prompts import prompts_for
from pipeline.settings import ExtractionSettings, TextSettings
from pipeline.text_models import TextModel, find_text_model
from storage.places import Place
from storage.store import Store
from storage.texts import TextEncoderIdentity, read_text_embedding, text_key, write_text_embedding


@dataclass(frozen=True, kw_only=True, slots=True)
class EncodedPrompt:
    """A sentence and where its vector came from."""

    label: str
    """Class name."""
    prompt: str
    encoded: bool
    """True where it was encoded now, False where the store had it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassTexts:
    """Embeddings of the classes of a data set."""

    vectors: NDArray[np.float32]
    """(C, W), as the encoder gave them; with several prompts the mean of their unit vectors."""
    sentences: tuple[EncodedPrompt, ...]
    """Every sentence, class by class."""
    encoder: TextEncoderIdentity
    random_weights: bool
    """True where the encoder's weights are seeded random numbers."""
    licence: str
    """Of the encoder's weights, as far as that is on record."""

    @property
    def prompts(self) -> tuple[str, ...]:
        """The sentences, class by class."""
        return tuple(sentence.prompt for sentence in self.sentences)

    @property
    def num_encoded(self) -> int:
        """Sentences that were encoded now; the others were in the store."""
        return sum(sentence.encoded for sentence in self.sentences)

    @property
    def notices(self) -> tuple[str, ...]:
        """A plain sentence where random weights made the vectors."""
        if not self.random_weights:
            return ()
        return (
            f"Text embeddings of {self.encoder.model} come from seeded random weights, not trained ones.",
        )


def embed_classes(
    names: Sequence[str],
    *,
    text: TextSettings,
    extraction: ExtractionSettings,
    store: Store,
    beside_features: bool = True,
) -> ClassTexts:
    """Embeddings of class names; only sentences that the store does not have are encoded.

    Args:
        names: C class names.
        text: Model, and how a name becomes sentences.
        extraction: Which weights a CLIP model gets, and the device.
        store: Where embeddings are kept.
        beside_features: Whether features are extracted too; real and random weights are then never mixed.

    Raises:
        LabelError: Names or descriptions cannot become sentences.
        WeightsError: Real weights cannot be had; the message says what to do.
        SettingsError: open_clip knows no such model.
    """
    prompts = prompts_for(names, text=text)
    model = find_text_model(text.model, extraction=extraction, store=store, beside_features=beside_features)
    label_of = {prompt: name for name, own in zip(names, prompts, strict=True) for prompt in own}
    paths = {prompt: _path_of(prompt, model=model, store=store) for prompt in label_of}
    missing = [prompt for prompt, path in paths.items() if not path.exists()]
    if missing:
        vectors = model.load(extraction.device).encode_texts(missing)
        for prompt, vector in zip(missing, vectors, strict=True):
            write_text_embedding(
                paths[prompt], vector, label=label_of[prompt], prompt=prompt, model=model.identity.model
            )
    read = {prompt: read_text_embedding(path) for prompt, path in paths.items()}
    return ClassTexts(
        vectors=np.stack([_averaged([read[prompt] for prompt in own]) for own in prompts]),
        sentences=tuple(
            EncodedPrompt(label=name, prompt=prompt, encoded=prompt in set(missing))
            for name, own in zip(names, prompts, strict=True)
            for prompt in own
        ),
        encoder=model.identity,
        random_weights=model.random,
        licence=model.licence,
    )


def class_text_paths(
    names: Sequence[str],
    *,
    text: TextSettings,
    extraction: ExtractionSettings,
    store: Store,
    beside_features: bool = True,
) -> list[Place]:
    """Where the embeddings of class names lie, or would lie, as for ``embed_classes``; nothing is encoded.

    Raises:
        LabelError: Names or descriptions cannot become sentences.
        WeightsError: Real weights cannot be had; the message says what to do.
        SettingsError: open_clip knows no such model.
    """
    model = find_text_model(text.model, extraction=extraction, store=store, beside_features=beside_features)
    prompts = dict.fromkeys(prompt for own in prompts_for(names, text=text) for prompt in own)
    return [_path_of(prompt, model=model, store=store) for prompt in prompts]


def _path_of(prompt: str, *, model: TextModel, store: Store) -> Place:
    return store.text_path(text_key(prompt, encoder=model.identity))


def _averaged(vectors: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """One vector as it is; of several the mean of their unit vectors (Radford et al. 2021, section 3.1.4)."""
    if len(vectors) == 1:
        return vectors[0]
    units = [vector / np.linalg.norm(vector) for vector in vectors]
    return np.asarray(np.mean(units, axis=0), dtype=np.float32)
