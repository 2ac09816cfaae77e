"""Whether every artefact of a store opens."""

from collections.abc import Callable
from dataclasses import dataclass

from storage.catalogue import read_catalogue
from storage.errors import StorageError
from storage.features import read_feature_metadata
from storage.folders import read_manifest
from storage.places import Place, listed
from storage.segments import read_segments
from storage.store import Store
from storage.texts import read_text_embedding
from storage.timelines import read_timeline

_READERS: dict[str, tuple[str, Callable[[Place], object]]] = {
    "timelines": ("timelines/*.parquet", read_timeline),
    "features": ("features/*/*.parquet", read_feature_metadata),
    "text embeddings": ("texts/*.parquet", read_text_embedding),
    "predictions": ("predictions/*.parquet", read_segments),
    "runs": ("runs/*", read_manifest),
    "evaluations": ("evaluations/*", read_manifest),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class StoreHealth:
    """What a look at every artefact found."""

    counts: dict[str, int]
    """Artefacts that open, by kind."""
    problems: tuple[str, ...]
    """A sentence for each that does not, with the remedy."""


def examine_store(store: Store) -> StoreHealth:
    """Open every artefact; of features only what made them is read."""
    counts = {"videos": len(read_catalogue(store.catalogue_path))}
    problems: list[str] = []
    for kind, (pattern, read) in _READERS.items():
        counts[kind] = 0
        for path in listed(store.root, pattern):
            try:
                read(path)
            except StorageError as error:
                problems.append(str(error))
            else:
                counts[kind] += 1
    return StoreHealth(counts=counts, problems=tuple(problems))
