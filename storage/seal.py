"""Seals: every file of the store carries the checksum of its own bytes, so that one flipped bit is found.

A Parquet file is sealed in its footer: the entry ``factseg.seal`` holds the SHA-256 of everything before the
footer, then that of the footer itself with this second half as zeros. So the end of a file, a few kilobytes, proves
what made it and names its content, and reading a data page needs only the page's own checksum besides. A JSON file is
sealed by its member ``sha256``, taken over the file's bytes with 64 zeros in its place; a checkpoint in safetensors
likewise by the entry of that name in its header. Nothing lies beside the file
that could be lost, and a file copied elsewhere can still be checked.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from storage.errors import CorruptArtefactError
from storage.places import Place

SEAL_KEY = "factseg.seal"
"""Entry of a Parquet footer."""

JSON_SEAL = "sha256"
"""Member of a sealed JSON object."""

_ZEROS = b"0" * 64
_MAGIC = b"PAR1"
_CHUNK_BYTES = 1 << 20
# Thrift's compact protocol: a string is its type, its length as a varint (128 is 80 01), its bytes.
_PARQUET_SEAL = re.compile(rb"factseg\.seal\x18\x80\x01([0-9a-f]{64})([0-9a-f]{64})")
_SAFETENSORS_SEAL = re.compile(rb'"sha256":"([0-9a-f]{64})"')
_JSON_SEAL = re.compile(rb'"sha256": "([0-9a-f]{64})"')

_LONGEST_HEADER = 100 << 20
"""Bytes; safetensors itself refuses a longer header."""

BLANK_SAFETENSORS_SEAL = {JSON_SEAL: _ZEROS.decode()}
"""What goes into the metadata of a safetensors file before ``seal_safetensors`` fills it in."""

BLANK_PARQUET_SEAL = {SEAL_KEY: (_ZEROS + _ZEROS).decode()}
"""What a Parquet writer adds to the footer before ``seal_parquet`` fills it in."""


def seal_parquet(path: Path) -> None:
    """Fill in the blank seal of a finished Parquet file."""
    with path.open("r+b") as file:
        footer_start, footer = _read_footer(file, path)
        found = _last_seal(footer)
        if found is None:
            raise ValueError(f"{path.name} was written without a blank seal.")
        body = _digest_until(file, footer_start)
        sealed = footer[: found.start(1)] + body + _ZEROS + footer[found.end(2) :]
        file.seek(footer_start + found.start(1))
        file.write(body + hashlib.sha256(sealed).hexdigest().encode())


def parquet_digest(path: Place) -> str | None:
    """SHA-256 that names the content of a sealed Parquet file, from its end alone; None where it has no seal.

    Raises:
        CorruptArtefactError: The end of the file is not what was written.
    """
    with path.open("rb") as file:
        _, footer = _read_footer(file, path)
    found = _last_seal(footer)
    if found is None:
        return None
    blank = footer[: found.start(2)] + _ZEROS + footer[found.end(2) :]
    if hashlib.sha256(blank).hexdigest().encode() != found[2]:
        raise CorruptArtefactError(
            f"{path} cannot be read (its end is not what was written; a byte was changed). "
            "Delete it and run the step that makes it again."
        )
    return found[2].decode()


def is_parquet_whole(path: Place) -> bool:
    """Whether every byte of a Parquet file is the one that was sealed."""
    try:
        if parquet_digest(path) is None:
            return False
        with path.open("rb") as file:
            footer_start, footer = _read_footer(file, path)
            found = _last_seal(footer)
            return found is not None and _digest_until(file, footer_start) == found[1]
    except CorruptArtefactError:
        return False


def seal_json(value: Mapping[str, Any]) -> str:
    """Indented JSON of ``value`` with the checksum of this text as its last member."""
    blank = (
        json.dumps({**value, JSON_SEAL: _ZEROS.decode()}, indent=2, ensure_ascii=False, allow_nan=False)
        + "\n"
    )
    digest = hashlib.sha256(blank.encode()).hexdigest()
    head, _, tail = blank.rpartition(_ZEROS.decode())
    return head + digest + tail


def is_json_whole(text: bytes) -> bool:
    """Whether every byte of a sealed JSON text is the one that was written."""
    seals = list(_JSON_SEAL.finditer(text))
    if not seals:
        return False
    start, end = seals[-1].span(1)
    return hashlib.sha256(text[:start] + _ZEROS + text[end:]).hexdigest().encode() == seals[-1][1]


def seal_safetensors(path: Path) -> None:
    """Fill in the blank seal of a finished safetensors file."""
    with path.open("r+b") as file:
        start, digest = _safetensors_digest(file)
        if start is None:
            raise ValueError(f"{path.name} was written without a blank seal.")
        file.seek(start)
        file.write(digest)


def is_safetensors_whole(path: Place) -> bool:
    """Whether every byte of a sealed safetensors file is the one that was written."""
    with path.open("rb") as file:
        start, digest = _safetensors_digest(file)
        if start is None:
            return False
        file.seek(start)
        return bytes(file.read(len(_ZEROS))) == digest


def _safetensors_digest(file: IO[bytes]) -> tuple[int | None, bytes]:
    """Where the seal lies, and SHA-256 in hexadecimal of the file with zeros in its place; None where there is none."""
    length = file.read(8)
    size = int.from_bytes(length, "little")
    # Headers are kilobytes; a length that was changed must not fill the memory.
    header = file.read(min(size, _LONGEST_HEADER))
    found = _SAFETENSORS_SEAL.search(header)
    if found is None:
        return None, b""
    digest = hashlib.sha256(length + header[: found.start(1)] + _ZEROS + header[found.end(1) :])
    while chunk := file.read(_CHUNK_BYTES):
        digest.update(chunk)
    return len(length) + found.start(1), digest.hexdigest().encode()


def _last_seal(footer: bytes) -> re.Match[bytes] | None:
    # The last: added when the writer closed, after every fact that somebody chose.
    return max(_PARQUET_SEAL.finditer(footer), key=re.Match.start, default=None)


def _read_footer(file: IO[bytes], path: Place) -> tuple[int, bytes]:
    """Where the footer starts, and its bytes up to the end of the file."""
    size = file.seek(0, 2)
    file.seek(max(0, size - 8))
    tail = file.read()
    length = int.from_bytes(tail[:4], "little") + 8
    if tail[4:] != _MAGIC or length + 4 > size:
        raise CorruptArtefactError(
            f"{path} cannot be read (it is no whole Parquet file; {size} bytes). "
            "Delete it and run the step that makes it again."
        )
    file.seek(size - length)
    return size - length, file.read()


def _digest_until(file: IO[bytes], end: int) -> bytes:
    """SHA-256 in hexadecimal of the first ``end`` bytes."""
    digest = hashlib.sha256()
    file.seek(0)
    while end > 0 and (chunk := file.read(min(end, _CHUNK_BYTES))):
        digest.update(chunk)
        end -= len(chunk)
    return digest.hexdigest().encode()
