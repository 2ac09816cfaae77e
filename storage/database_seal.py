"""A note of what the tracking database held when we last wrote it: SQLite has no place for a seal of its own."""

import sqlite3
from contextlib import closing
from pathlib import Path

from storage.errors import StorageError
from storage.keys import file_digest
from storage.sealed_json import read_sealed_json, write_sealed_json


def record_database(database: Path) -> None:
    """Note the digest of the database. Hold its ``artefact_lock``."""
    write_sealed_json(database_note(database), {"digest": file_digest(database)})


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
