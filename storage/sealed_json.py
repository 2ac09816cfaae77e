"""JSON files of the store: written whole, with a checksum of their own text that every reader checks."""

import json
from collections.abc import Mapping
from typing import Any

from storage.atomic import write_text_atomically
from storage.errors import CorruptArtefactError, MissingArtefactError
from storage.places import Place
from storage.seal import JSON_SEAL, is_json_whole, seal_json


def write_sealed_json(path: Place, facts: Mapping[str, Any], *, once: bool = False) -> None:
    """Write a JSON object with its checksum, whole or not at all; ``once`` as for ``atomic_path``."""
    write_text_atomically(path, seal_json(facts), once=once)


def read_sealed_json(path: Place) -> dict[str, Any]:
    """The object without its checksum; a file of a version-1 store has none and is believed.

    Raises:
        MissingArtefactError: There is no such file.
        CorruptArtefactError: It is no JSON object, or a byte of it was changed.
    """
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        raise MissingArtefactError(
            f"There is no {path}. Run the step that makes it again, or restore the file."
        ) from None
    try:
        facts = json.loads(text)
    except ValueError as error:
        raise CorruptArtefactError(f"{path} is no JSON ({error}). {_REMEDY}") from error
    if not isinstance(facts, dict):
        raise CorruptArtefactError(f"{path} is no JSON object. {_REMEDY}")
    if JSON_SEAL in facts and not is_json_whole(text):
        raise CorruptArtefactError(f"{path} is not what was written; a byte was changed. {_REMEDY}")
    facts.pop(JSON_SEAL, None)
    return facts


_REMEDY = "Delete it, in a folder of a run the whole folder, and run the step that makes it again."
