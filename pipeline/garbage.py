"""What the store holds and this version of the code would never look for again."""

from pipeline.catalogue import CORRUPT_RULES, timeline_key
from pipeline.extract import EXTRACT_VERSION
from storage.catalogue import read_catalogue
from storage.garbage import CurrentKeys, Garbage, find_garbage
from storage.store import Store


def unreferenced(store: Store, *, min_age_days: float) -> list[Garbage]:
    """Everything ``factseg gc`` may remove; nothing is touched.

    Raises:
        MissingArtefactError: There is no catalogue, so nothing says which videos are wanted.
        CorruptArtefactError: The catalogue or a manifest is damaged.
    """
    rows = read_catalogue(store.catalogue_path)
    timelines = {
        timeline_key(row.video_hash, on_corrupt=rule)
        for row in rows
        for rule in CORRUPT_RULES
        if row.video_hash
    }
    current = CurrentKeys(timelines=timelines, extract_version=EXTRACT_VERSION)
    return find_garbage(store, current, min_age_days=min_age_days)
