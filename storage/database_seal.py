"""A note of what the tracking database held when we last wrote it: SQLite has no place for a seal of its own."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from storage.atomic import atomic_path, reserve
from storage.errors import StorageError
from storage.keys import file_digest
from storage.seal import seal_json
from storage.sealed_json import read_sealed_json, write_sealed_json


def record_database(database: Path) -> None:
    """Note the digest of the database. Hold its ``artefact_lock``."""
    write_sealed_json(database_note(database), {"digest": file_digest(database)})


@contextmanager
def recorded(database: Path) -> Iterator[None]:
    """Change the database in the block; what it holds then is noted, also where the block raised.

    Hold its ``artefact_lock``. Room for the note is taken before the block: on a full disk nothing is changed that
    could not be noted.

    Raises:
        DiskFullError: There is no room for the note; the block was not entered.
    """
    note, before = database_note(database), file_digest(database) if database.exists() else ""
    raised: BaseException | None = None
    with atomic_path(note) as scratch:
        reserve(scratch, len(_note_text("0" * 64)))
        try:
            yield
        except BaseException as error:
            raised = error
            if not database.exists():
                raise
        now = file_digest(database)
        # What was not changed here is not vouched for anew.
        text = note.read_bytes() if now == before and note.exists() else _note_text(now)
        with scratch.open("r+b") as file:
            file.write(text)
            file.truncate()
    if raised is not None:
        raise raised


def _note_text(digest: str) -> bytes:
    return seal_json({"digest": digest}).encode()


def database_note(database: Path) -> Path:
    """Where the digest of a database is noted."""
    return database.with_name(f"{database.name}.json")


def database_problem(database: Path) -> str:
    """What is wrong with the database, in a few words; empty where it is as it was noted."""
    try:
        if read_sealed_json(database_note(database))["digest"] == file_digest(database):
            return ""
    except StorageError as error:
        return str(error)
    try:
        with closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            found = str(connection.execute("PRAGMA integrity_check").fetchone()[0])
    except sqlite3.DatabaseError as error:
        found = str(error)
    if found == "ok":
        return "it is not what factseg last wrote, though SQLite finds its structure in order"
    return f"it is not what factseg last wrote, and SQLite says: {found}"
