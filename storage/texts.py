"""Text embeddings at rest: one small Parquet file per prompt, named by all that can change its vector."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from storage.keys import digest_of
from storage.places import Place
from storage.tables import read_table, write_table

TEXT_LAYOUT = "text-embedding/1"
"""Version of the table: ``class``, ``prompt``, ``model``, ``vector``."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TextEncoderIdentity:
    """Everything about a text encoder that can change a vector."""

    model: str
    """Architecture, e.g. ``ViT-B-32``."""
    weights_digest: str
    """SHA-256 of the weights."""
    tokenizer: str
    """Name of the tokenizer and its context length."""
    version: int
    """Version of the code that turns a prompt into a vector."""


def text_key(prompt: str, *, encoder: TextEncoderIdentity) -> str:
    """Name of the embedding of ``prompt``."""
    return digest_of(
        {
            "prompt": prompt,
            "model": encoder.model,
            "weights": encoder.weights_digest,
            "tokenizer": encoder.tokenizer,
            "version": encoder.version,
        }
    )


def write_text_embedding(
    path: Place, vector: NDArray[np.float32], *, label: str, prompt: str, model: str
) -> None:
    """Store one (W,) embedding, as the encoder gave it: not normalised."""
    values = pa.FixedSizeListArray.from_arrays(pa.array(vector, type=pa.float32()), len(vector))
    table = pa.table({"class": [label], "prompt": [prompt], "model": [model], "vector": values})
    write_table(path, table, layout=TEXT_LAYOUT, metadata={}, once=True)


def read_text_embedding(path: Place) -> NDArray[np.float32]:
    """The (W,) embedding at ``path``.

    Raises:
        MissingArtefactError: There is none.
        CorruptArtefactError: The file is no text embedding of a known layout.
    """
    return np.array(read_text_table(path).column("vector").to_pylist()[0], dtype=np.float32)


def read_text_table(path: Place) -> pa.Table:
    """The row of ``class``, ``prompt``, ``model`` and ``vector`` at ``path``; raises as ``read_text_embedding``."""
    return read_table(path, layout=TEXT_LAYOUT)[0]
