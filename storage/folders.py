"""Folders of artefacts (runs, evaluations): files first, the manifest last.

A folder without its manifest is unfinished work: readers do not see it, and the next try starts it anew.
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from storage.atomic import write_json_atomically
from storage.errors import CorruptArtefactError, MissingArtefactError
from storage.keys import file_digest

MANIFEST = "manifest.json"


def is_finished(folder: Path) -> bool:
    """Whether the folder's manifest was written."""
    return (folder / MANIFEST).is_file()


def start_folder(folder: Path) -> None:
    """Make an empty folder to work in; what unfinished work left there is removed. Hold the folder's lock.

    Raises:
        ValueError: The folder holds finished work.
    """
    if is_finished(folder):
        raise ValueError(f"{folder} holds finished work, which is never overwritten.")
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)


def finish_folder(folder: Path, facts: Mapping[str, Any]) -> None:
    """Write the manifest: the facts, and the digest of every file in the folder."""
    files = {
        path.relative_to(folder).as_posix(): file_digest(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(".") and path.name != MANIFEST
    }
    write_json_atomically(folder / MANIFEST, {**facts, "files": files})


def read_manifest(folder: Path) -> dict[str, Any]:
    """The facts of a finished folder.

    Raises:
        MissingArtefactError: The folder does not exist or is unfinished.
        CorruptArtefactError: The manifest is no JSON object.
    """
    path = folder / MANIFEST
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise MissingArtefactError(
            f"{folder} holds no finished work. Run the step that makes it again."
        ) from None
    except ValueError as error:
        raise CorruptArtefactError(
            f"{path} is no JSON ({error}). Delete the folder and run the step again."
        ) from error
    if not isinstance(facts, dict):
        raise CorruptArtefactError(f"{path} is no JSON object. Delete the folder and run the step again.")
    return facts
