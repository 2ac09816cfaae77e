"""Fetching a file whose content is known beforehand."""

import hashlib
import logging
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

from pipeline.errors import WeightsError
from storage.atomic import artefact_lock, atomic_path

log = logging.getLogger(__name__)

_CHUNK_BYTES = 1 << 20
_TIMEOUT_SECONDS = 60


def download_file(url: str, target: Path, *, sha256: str) -> Path:
    """Fetch ``url`` to ``target``, which appears only if its SHA-256 is the expected one.

    Raises:
        WeightsError: The address cannot be reached, is not http(s), or gives other content.
    """
    if urllib.parse.urlsplit(url).scheme not in {"http", "https"}:
        raise WeightsError(f"{url}: only http and https addresses are fetched. Download the file by hand.")
    with artefact_lock(target):
        if target.is_file():
            return target
        log.info("Fetching %s", url)
        with atomic_path(target) as scratch:
            found = _fetch(url, scratch)
            if found != sha256:
                raise WeightsError(
                    f"{url}: its SHA-256 is {found} instead of {sha256}. Correct the address or the checksum."
                )
    return target


def _fetch(url: str, scratch: Path) -> str:
    digest = hashlib.sha256()
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_SECONDS) as source, scratch.open("wb") as file:  # noqa: S310
            while chunk := source.read(_CHUNK_BYTES):
                digest.update(chunk)
                file.write(chunk)
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        raise WeightsError(
            f"{url}: cannot be fetched ({error}). Download the file by hand to {scratch.parent}."
        ) from error
    return digest.hexdigest()
