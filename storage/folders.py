"""Folders of artefacts (runs, evaluations): files first, the manifest last.

A folder without its manifest is unfinished work: readers do not see it, and the next try starts it anew.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from storage.errors import MissingArtefactError
from storage.keys import file_digest
from storage.places import Place, listed, name_within, remove_tree
from storage.sealed_json import read_sealed_json, write_sealed_json

MANIFEST = "manifest.json"


def is_finished(folder: Place) -> bool:
    """Whether the folder's manifest was written."""
    return (folder / MANIFEST).is_file()


def start_folder(folder: Place) -> None:
    """Make an empty folder to work in; what unfinished work left there is removed. Hold the folder's lock.

    Raises:
        ValueError: The folder holds finished work.
    """
    if is_finished(folder):
        raise ValueError(f"{folder} holds finished work, which is never overwritten.")
    remove_tree(folder)
    if isinstance(folder, Path):
        # An object store has no folders, only names with strokes in them.
        folder.mkdir(parents=True)


def finish_folder(folder: Place, facts: Mapping[str, Any]) -> None:
    """Write the manifest: the facts, and the digest of every file in the folder.

    On an object store the manifest is one put that the server refuses where there is one already.
    """
    files = {
        name_within(folder, path): file_digest(path)
        for path in listed(folder, "**/*")
        if path.is_file() and path.name != MANIFEST
    }
    write_sealed_json(folder / MANIFEST, {**facts, "files": files}, once=True)


def read_manifest(folder: Place) -> dict[str, Any]:
    """The facts of a finished folder.

    Raises:
        MissingArtefactError: The folder does not exist or is unfinished.
        CorruptArtefactError: The manifest is no JSON object, or a byte of it was changed.
    """
    if not is_finished(folder):
        raise MissingArtefactError(f"{folder} holds no finished work. Run the step that makes it again.")
    return read_sealed_json(folder / MANIFEST)
