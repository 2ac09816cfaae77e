"""Part files of a feature file that is being made: what a killed run has finished is not made again."""

import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa

from storage.atomic import atomic_path
from storage.errors import CorruptArtefactError
from storage.feature_file import ROWS_PER_GROUP, FeaturePacking, open_feature_writer
from storage.keys import digest_of
from storage.places import Place, cache_folder
from storage.seal import is_parquet_whole, seal_parquet
from storage.tables import METADATA_KEY, open_parquet


def parts_folder(path: Place) -> Path:
    """Local folder of the parts of a feature file that is being made: hidden beside it where it is local too."""
    if not isinstance(path, Path):
        return cache_folder() / "parts" / digest_of({"target": str(path)})
    return path.with_name(f".{path.name}.parts")


def discard_parts(path: Place) -> None:
    """Delete the parts of a feature file that will never be finished; hold its ``artefact_lock``."""
    shutil.rmtree(parts_folder(path), ignore_errors=True)


class FeatureParts:
    """The part files of one feature file, each of ``part_steps`` steps; hold the file's ``artefact_lock``."""

    def __init__(self, path: Place, schema: pa.Schema, *, packing: FeaturePacking, part_steps: int) -> None:
        if part_steps < ROWS_PER_GROUP or part_steps % ROWS_PER_GROUP:
            raise ValueError(f"{part_steps = }; a part holds a multiple of {ROWS_PER_GROUP} steps.")
        self._folder = parts_folder(path)
        self._schema = schema
        self._packing: FeaturePacking = packing
        self._part_steps = part_steps
        self._pending: list[pa.Table] = []
        self._folder.mkdir(parents=True, exist_ok=True)
        self._count = 0
        while self._is_usable(self._path(self._count)):
            self._count += 1
        known = {self._path(index) for index in range(self._count)}
        for leftover in set(self._folder.iterdir()) - known:
            leftover.unlink()

    @property
    def num_steps(self) -> int:
        """Steps in the finished parts."""
        return self._count * self._part_steps

    def add(self, group: pa.Table) -> None:
        """Take a row group; the part is finished when it is full."""
        self._pending.append(group)
        if len(self._pending) * ROWS_PER_GROUP >= self._part_steps:
            with atomic_path(self._path(self._count)) as scratch:
                self._write(scratch, self._pending)
            self._pending = []
            self._count += 1

    def join(self, target: Path) -> None:
        """Write all parts, and what follows them, into one file."""
        self._write(target, self._groups())

    def remove(self) -> None:
        """Delete the parts."""
        shutil.rmtree(self._folder)

    def _write(self, target: Path, groups: Iterable[pa.Table]) -> None:
        with open_feature_writer(target, self._schema, packing=self._packing) as parquet:
            for group in groups:
                parquet.write_table(group, row_group_size=ROWS_PER_GROUP)
        seal_parquet(target)

    def _groups(self) -> Iterator[pa.Table]:
        for index in range(self._count):
            with open_parquet(self._path(index)) as file:
                for group in range(file.num_row_groups):
                    yield file.read_row_group(group).cast(self._schema)
        yield from self._pending

    def _path(self, index: int) -> Path:
        return self._folder / f"{index:06d}.parquet"

    def _is_usable(self, path: Path) -> bool:
        """Whether the part is there, whole, and of the same schema, metadata included."""
        if not path.is_file() or not is_parquet_whole(path):
            return False
        try:
            with open_parquet(path) as file:
                found = file.schema_arrow
                same_facts = found.metadata.get(METADATA_KEY) == self._schema.metadata[METADATA_KEY]
                return (
                    same_facts and found.equals(self._schema) and file.metadata.num_rows == self._part_steps
                )
        except CorruptArtefactError:
            return False
