"""Every byte of a store against the checksums it carries: which artefact is damaged, and what makes it again."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from storage.catalogue import read_catalogue
from storage.database_seal import database_problem
from storage.datasets import dataset_names, read_dataset
from storage.errors import StorageError
from storage.feature_cache import CACHE_FOLDER, is_cache_whole
from storage.features import read_feature_metadata
from storage.folders import MANIFEST, is_finished, read_manifest
from storage.keys import file_digest
from storage.places import Place, listed, name_within
from storage.seal import is_json_whole, is_parquet_whole, is_safetensors_whole
from storage.store import MARKER, Store, marker_facts

_REBUILD = {
    "timelines": "`factseg probe` on the videos",
    "features": "`factseg extract`, or `factseg import` for imported features",
    "texts": "`factseg embed`",
    "labels": "`factseg import`",
    "datasets": "`factseg import`",
    "tables": "the stage that the file is named after",
    "checkpoints": "`factseg train` with the same options, which starts anew",
    "predictions": "`factseg segment`, or `factseg evaluate`",
    "runs": "`factseg train`",
    "evaluations": "`factseg evaluate`",
    "catalogue.parquet": "`factseg probe` on the folders of videos",
    "mlflow.db": "`factseg evaluate` on every run, which registers it again",
    "mlflow.db.json": "`factseg evaluate` on any run, which notes it again",
}
"""Command that makes an artefact again, by the first part of its path."""

_FOLDERS = ("runs", "evaluations")
_MISMATCH = "its checksum is missing or does not match"


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """Something that is not as it should be."""

    path: str
    """Relative to the store."""
    kind: Literal["damaged", "unfinished", "unknown"]
    """``unfinished``: work that was stopped, or is going on. ``unknown``: a file that is not the store's."""
    what: str
    """What was found."""
    remedy: str
    """What to do."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Verification:
    """What verifying a store found."""

    num_files: int
    """Files whose every byte was checked."""
    num_bytes: int
    findings: tuple[Finding, ...]

    @property
    def is_whole(self) -> bool:
        """Whether nothing is damaged."""
        return all(finding.kind != "damaged" for finding in self.findings)


def verify_store(store: Store) -> Verification:
    """Read every file of the store and compare it with its checksum."""
    findings: list[Finding] = []
    num_files = num_bytes = 0
    for path in _files(store.root):
        finding = _examine(path, store)
        if finding is not None:
            findings.append(finding)
        if finding is None or finding.kind == "damaged":
            num_files += 1
            num_bytes += path.stat().st_size
    findings += _missing(store)
    return Verification(num_files=num_files, num_bytes=num_bytes, findings=tuple(findings))


def _files(root: Place) -> Iterator[Place]:
    found: list[Place] = list(root.rglob("*"))
    for path in sorted(found, key=str):
        # Locks are empty; scratch files belong to whoever is writing them, and are cleared with the next lock.
        if path.is_file() and path.suffix not in {".lock", ".part"}:
            yield path


def _examine(path: Place, store: Store) -> Finding | None:
    parts = _parts(path, store)
    if parts[0] in _FOLDERS and len(parts) > 2:
        return _examine_folder_file(path, store)
    check = _check_of(path, store)
    if check is None:
        return _unknown(path, store)
    problem = check(path)
    return _damaged(path, store, problem) if problem else None


def _check_of(path: Place, store: Store) -> Callable[[Place], str] | None:
    """The function that says in a few words what is wrong with such a file; None for a file that is not ours."""
    if isinstance(path, Path) and path == store.tracking_database:
        return lambda _: database_problem(path)
    if path.name.startswith("."):
        return None
    if isinstance(path, Path) and path.parent.name == CACHE_FOLDER:
        return lambda _: "" if is_cache_whole(path) else _MISMATCH
    checks: dict[str, Callable[[Place], str]] = {
        ".parquet": lambda table: "" if is_parquet_whole(table) else _MISMATCH,
        ".safetensors": lambda tensors: "" if is_safetensors_whole(tensors) else _MISMATCH,
        ".json": lambda text: "" if is_json_whole(text.read_bytes()) else _MISMATCH,
    }
    return checks.get(path.suffix)


def _examine_folder_file(path: Place, store: Store) -> Finding | None:
    kind, key, *inner = _parts(path, store)
    folder = store.root / kind / key
    if not is_finished(folder):
        return None
    manifest = folder / MANIFEST
    if not is_json_whole(manifest.read_bytes()):
        whole = "the folder's manifest is damaged, so nothing in it can be trusted"
        return _damaged(path, store, whole) if path == manifest else None
    listed = read_manifest(folder)["files"]
    name = "/".join(inner)
    if path == manifest or listed.get(name) == file_digest(path):
        return None
    return _damaged(path, store, _MISMATCH) if name in listed else _unknown(path, store)


def _missing(store: Store) -> Iterator[Finding]:
    """Files that manifests list and that are not there; folders without a manifest."""
    for kind in _FOLDERS:
        for folder in listed(store.root / kind, "*"):
            if not is_finished(folder):
                yield _finding(
                    folder,
                    store,
                    "unfinished",
                    "it has no manifest",
                    "Run the same command again, or `factseg gc`.",
                )
            elif is_json_whole((folder / MANIFEST).read_bytes()):
                for name in read_manifest(folder)["files"]:
                    if not (folder / name).is_file():
                        yield _damaged(folder / name, store, "it is gone, though the manifest lists it")


def _parts(path: Place, store: Store) -> list[str]:
    """Names of the folders from the store to the file, and its own."""
    return name_within(store.root, path).split("/")


def _damaged(path: Place, store: Store, what: str) -> Finding:
    return _finding(path, store, "damaged", what, _remedy(path, store))


def _unknown(path: Place, store: Store) -> Finding:
    return _finding(path, store, "unknown", "it is no file of factseg", "Keep other files outside the store.")


def _finding(
    path: Place, store: Store, kind: Literal["damaged", "unfinished", "unknown"], what: str, remedy: str
) -> Finding:
    name = name_within(store.root, path)
    return Finding(path=name, kind=kind, what=what, remedy=remedy)


def _remedy(path: Place, store: Store) -> str:
    parts = _parts(path, store)
    if parts[-1] == MARKER and len(parts) == 1:
        return f"Write `{json.dumps(marker_facts())}` into it, then run `factseg migrate`."
    if parts[0] in {"digests", "watched"} or parts == ["champions.json"] or parts[-2:-1] == [CACHE_FOLDER]:
        return "Delete it; it is made anew when it is needed."
    if len(parts) > 1 and parts[-2].endswith(".parts"):
        return "Nothing: the next `factseg extract` of this video makes this part again."
    target = path
    if parts[0] in _FOLDERS:
        target = store.root / parts[0] / parts[1]
    command = _REBUILD.get(parts[0], "the command that made it")
    if parts[0] in {"features", "labels"}:
        command = _import_command(path, store) or _extract_command(path, store) or command
    return f"Delete {target}, then run {command}."


def _import_command(path: Place, store: Store) -> str:
    """The command that makes imported features or labels again; empty where no data set refers to them."""
    for name in dataset_names(store):
        try:
            recordings = read_dataset(store, name).recordings.values()
        except StorageError:
            # The data set is a finding of its own.
            continue
        if any(path.stem in {recording.features, recording.labels} for recording in recordings):
            return f"`factseg import` with --name {name!r} as before"
    return ""


def _extract_command(path: Place, store: Store) -> str:
    """The command that makes a feature file again, where its end can still be read; else an empty string."""
    if path.parent.parent.name != "features":
        return ""
    try:
        metadata = read_feature_metadata(path)
        rows = read_catalogue(store.catalogue_path)
    except StorageError:
        return ""
    for row in rows:
        if row.video_hash == metadata.video_hash:
            return (
                f"`factseg extract {row.path}` with the options it was made with (profile {metadata.profile})"
            )
    return ""
