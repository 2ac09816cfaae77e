"""Labels that a FACT_CLIP was never trained with: their texts, by the very encoder of its training."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import LabelError, SettingsError, WeightsError
from pipeline.model import ModelDescription, TextInput
from pipeline.settings import (
    PACKAGED_TEXT_MODEL,
    SENTENCE_TRANSFORMERS,
    ExtractionSettings,
    SegmentSettings,
    TextSettings,
)
from pipeline.text_models import sentence_folder
from pipeline.texts import embed_classes
from pipeline.weights import WeightsPolicy
from storage.store import Store


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class OpenLabels:
    """Labels to choose from, and what stands for them."""

    names: tuple[str, ...]
    vectors: NDArray[np.float32]
    """(L, W) as the encoder gave them."""
    sentences: dict[str, list[str]]
    """What was encoded for each label."""


def embed_labels(description: ModelDescription, *, settings: SegmentSettings, store: Store) -> OpenLabels:
    """Embed the labels that the settings give, with the model, weights and templates of training.

    Raises:
        LabelError: The model knows no texts, or a label is given twice.
        SettingsError: ``text_model`` does not fit what the model was trained with.
        WeightsError: The encoder's weights are not here, or others than those of training.
    """
    names = settings.labels
    if description.text is None:
        raise LabelError(
            "Other labels than those of training need a model with texts, and this one is FACT. "
            "Train FACT_CLIP (--model fact-clip), or leave --labels out."
        )
    if len(set(names)) < len(names):
        raise LabelError("A label is given twice. Give each once.")
    trained = description.text
    policy = WeightsPolicy.RANDOM if trained.random_weights else WeightsPolicy.PRETRAINED
    extraction = ExtractionSettings(
        clip_pretrained=settings.clip_pretrained, weights=policy, device=settings.device
    )
    text = TextSettings(model=_encoder(trained, settings), prompt=trained.templates)
    texts = embed_classes(names, text=text, extraction=extraction, store=store, beside_features=False)
    if texts.encoder.weights_digest != trained.weights_digest:
        raise WeightsError(
            f"The model's texts came from {trained.model} with weights {trained.weights_digest[:12]}, and here are "
            f"weights {texts.encoder.weights_digest[:12]}. Name those of training with --clip-pretrained, or the "
            "folder of a sentence-transformers model with --text-model."
        )
    sentences: dict[str, list[str]] = {}
    for encoded in texts.sentences:
        sentences.setdefault(encoded.label, []).append(encoded.prompt)
    return OpenLabels(names=tuple(names), vectors=texts.vectors, sentences=sentences)


def _encoder(trained: TextInput, settings: SegmentSettings) -> str:
    """Name of the encoder to load; a folder is no part of what a model knows of its texts."""
    if trained.model != SENTENCE_TRANSFORMERS.rstrip(":"):
        if settings.text_model:
            raise SettingsError(
                f"--text-model {settings.text_model}: the model's texts came from {trained.model} of open_clip. "
                "Leave --text-model out; --clip-pretrained names its weights."
            )
        return trained.model
    if sentence_folder(settings.text_model) is None:
        raise SettingsError(
            f"The model's texts came from a sentence-transformers model (weights {trained.weights_digest[:12]}), "
            f"which must be named for other labels; --text-model is {settings.text_model!r}. "
            f"Give --text-model {PACKAGED_TEXT_MODEL} or --text-model {SENTENCE_TRANSFORMERS}FOLDER."
        )
    return settings.text_model
