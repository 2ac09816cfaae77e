"""Work that failed, remembered until it succeeds, so that whoever asks later is told why an artefact is missing."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from storage.errors import CorruptArtefactError
from storage.keys import digest_of
from storage.places import Place, listed
from storage.sealed_json import read_sealed_json, write_sealed_json
from storage.store import Store

FAILURE_LAYOUT = "failure/1"
"""Version of the JSON below; a reader refuses any other."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """Why artefacts of one video could not be made."""

    stage: str
    """Such as ``features``."""
    path: str
    """Path or URL of the video."""
    keys: tuple[str, ...]
    """Keys of the artefacts that were not made: another content, setting or version has others."""
    reason: str
    """One sentence."""


def write_failure(store: Store, failure: Failure) -> None:
    """Remember a failure in place of the last one of this video in this stage."""
    target = _path(store, failure.stage, failure.path)
    write_sealed_json(target, {"layout": FAILURE_LAYOUT, **asdict(failure)})


def forget_failure(store: Store, *, stage: str, path: str) -> None:
    """Forget a failure, because the work succeeded; nothing happens where there is none."""
    _path(store, stage, path).unlink(missing_ok=True)


def read_failures(store: Store) -> list[Failure]:
    """Every failure that was not mended.

    Raises:
        CorruptArtefactError: A file is malformed or of another layout.
    """
    return [_read(place) for place in listed(store.root / "failures", "*.json")]


def failure_reasons(failures: Sequence[Failure]) -> dict[str, str]:
    """Why each artefact could not be made, by its key."""
    return {key: failure.reason for failure in failures for key in failure.keys}


def _read(place: Place) -> Failure:
    try:
        values = read_sealed_json(place)
        if values.pop("layout") != FAILURE_LAYOUT:
            raise CorruptArtefactError(f"{place} is not of layout {FAILURE_LAYOUT!r}. Delete it.")
        return Failure(**{**values, "keys": tuple(values["keys"])})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorruptArtefactError(f"{place} is malformed ({error}). Delete it.") from error


def _path(store: Store, stage: str, path: str) -> Place:
    return store.root / "failures" / f"{digest_of({'stage': stage, 'path': path})}.json"
