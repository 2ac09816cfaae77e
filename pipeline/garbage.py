"""What the store holds and this version of the code would never look for again."""

from pipeline.catalogue import CORRUPT_RULES, timeline_key
from pipeline.extract import EXTRACT_VERSION
from pipeline.model import read_description
from pipeline.run_files import DESCRIPTION_FILE
from storage.catalogue import read_catalogue
from storage.folders import is_finished
from storage.garbage import CurrentKeys, Garbage, find_garbage
from storage.places import listed
from storage.store import Store


def unreferenced(store: Store, *, min_age_days: float) -> list[Garbage]:
    """Everything ``factseg gc`` may remove; nothing is touched.

    Raises:
        MissingArtefactError: There is no catalogue, and there are artefacts of videos.
        CorruptArtefactError: The catalogue, a data set, a manifest or a model's description is damaged.
    """
    rows = read_catalogue(store.catalogue_path)
    timelines = {
        timeline_key(row.video_hash, on_corrupt=rule)
        for row in rows
        for rule in CORRUPT_RULES
        if row.video_hash
    }
    current = CurrentKeys(timelines=timelines, extract_version=EXTRACT_VERSION, texts=_trained_texts(store))
    return find_garbage(store, current, min_age_days=min_age_days)


def _trained_texts(store: Store) -> set[tuple[str, str]]:
    """Model and sentence of every text that a finished run was trained with."""
    described = [
        read_description(folder)
        for folder in listed(store.runs, "*")
        if is_finished(folder) and (folder / DESCRIPTION_FILE).is_file()
    ]
    texts = [description.text for description in described if description.text is not None]
    return {(text.model, prompt) for text in texts for prompt in text.prompts}
