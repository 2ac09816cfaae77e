"""A store of an earlier version becomes one of this version: file by file, the marker last.

Version 1 to 2: every Parquet and JSON file gets the checksum it lacks. No key and no value changes, so nothing is
computed again. A migration that was stopped goes on where it stopped: until the marker is written the store is one of
version 1, which readers take as it is.
"""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from storage.atomic import artefact_lock, atomic_path
from storage.database_seal import database_note, record_database
from storage.feature_file import FeaturePacking, open_feature_writer
from storage.folders import MANIFEST
from storage.places import Address
from storage.seal import BLANK_PARQUET_SEAL, is_json_whole, parquet_digest, seal_parquet
from storage.sealed_json import read_sealed_json, write_sealed_json
from storage.store import DATABASE, MARKER, STORE_VERSION, Store, marker_facts, store_version
from storage.tables import open_parquet, unreadable

_DISPOSABLE = ("digests.sqlite", "champions.json")
"""Memos of version 1; they are made anew in their new form."""


def migrate_store(address: Address, *, dry_run: bool) -> list[str]:
    """Bring a store to this version.

    Args:
        address: Its folder.
        dry_run: Say what would be done, and do nothing.

    Returns:
        A line for every file; empty where the store is of this version.

    Raises:
        MissingArtefactError: There is no store.
        StoreError: It is one of an unknown version.
        CorruptArtefactError: A file is damaged; delete it and migrate again. The store stays of its version.
    """
    root = Store(address, read_only=True).root
    if not isinstance(root, Path):
        # Version 1 was for local folders only.
        return []
    marker = root / MARKER
    if store_version(marker) == STORE_VERSION:
        return []
    if dry_run:
        return _planned(root)
    with artefact_lock(marker):
        done = _planned(root)
        for path in _unsealed(root):
            with artefact_lock(path):
                _seal(path)
        for name in _DISPOSABLE:
            (root / name).unlink(missing_ok=True)
        if (root / DATABASE).is_file():
            with artefact_lock(root / DATABASE):
                record_database(root / DATABASE)
        write_sealed_json(marker, marker_facts())
    return done


def _planned(root: Path) -> list[str]:
    lines = [f"seal {path.relative_to(root).as_posix()}" for path in _unsealed(root)]
    lines += [f"remove {name}" for name in _DISPOSABLE if (root / name).is_file()]
    if (root / DATABASE).is_file():
        lines.append(f"write {database_note(root / DATABASE).name}")
    return [*lines, f"write {MARKER}: version {STORE_VERSION}"]


def _unsealed(root: Path) -> Iterator[Path]:
    """Files that lack a checksum. Of the folders of runs and evaluations the manifest, which lists the others."""
    for path in sorted(root.rglob("*")):
        parts = path.relative_to(root).parts
        if any(part.startswith(".") for part in parts) or not path.is_file():
            continue
        if parts[0] in {"runs", "evaluations"}:
            sealed = path.name != MANIFEST or len(parts) != 3 or is_json_whole(path.read_bytes())
        elif path.suffix == ".parquet":
            sealed = parquet_digest(path) is not None
        else:
            sealed = path.suffix != ".json" or path.name in {MARKER, *_DISPOSABLE}
            sealed = sealed or is_json_whole(path.read_bytes())
        if not sealed:
            yield path


def _seal(path: Path) -> None:
    if path.suffix == ".json":
        write_sealed_json(path, read_sealed_json(path))
        return
    with open_parquet(path) as file, atomic_path(path) as scratch:
        try:
            _copy(file, scratch)
        except (pa.ArrowException, OSError) as error:
            raise unreadable(path, error) from error
        seal_parquet(scratch)


def _copy(file: pq.ParquetFile, target: Path) -> None:
    """The same rows in the same row groups, with checksums of the pages and a blank seal."""
    with _writer(file, target) as writer:
        for group in range(file.num_row_groups):
            writer.write_table(file.read_row_group(group))


def _writer(file: pq.ParquetFile, target: Path) -> pq.ParquetWriter:
    schema = file.schema_arrow
    if "feature" in schema.names:
        values = schema.field("feature").type.value_type
        packing: FeaturePacking = "compact" if values == pa.float16() else "exact"
        return open_feature_writer(target, schema, packing=packing)
    writer = pq.ParquetWriter(target, schema, compression="zstd", write_page_checksum=True)
    writer.add_key_value_metadata(BLANK_PARQUET_SEAL)
    return writer
