"""What a file is by its content, before any decoder sees it: text, encrypted, or a candidate."""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

_SUFFIXES = (
    ".3g2 .3gp .asf .avi .divx .f4v .flv .gif .h264 .h265 .hevc .m2ts .m4v .mkv .mov .mp4 .mpeg .mpg .mts "
    ".mxf .ogv .ts .vob .webm .wmv"
)
VIDEO_SUFFIXES = frozenset(_SUFFIXES.split())
"""Name endings by which a user says that a file is a video."""

_HEAD_BYTES = 8192
_CONTROL = bytes(set(range(32)) - set(b"\t\n\r\f\b\x1b"))
_CONTAINER_BOXES = frozenset((b"moov", b"trak", b"mdia", b"minf", b"stbl"))


def has_video_suffix(path: Path) -> bool:
    """Whether the name ends like a video's."""
    return path.suffix.lower() in VIDEO_SUFFIXES


def is_text(path: Path) -> bool:
    """Whether the file begins like text: no control bytes in its head, and not empty.

    Playlists and picture-list files are text too, so no decoder is ever led from one to other files or hosts.
    """
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return True
    return bool(head) and head.translate(None, _CONTROL) == head


def is_encrypted(path: Path) -> bool:
    """Whether an MP4 or MOV declares an encrypted video track (sample entry ``encv``, ISO/IEC 23001-7)."""
    with path.open("rb") as file:
        if file.read(8)[4:] not in {b"ftyp", b"moov", b"free", b"wide", b"mdat", b"styp"}:
            return False
        size = file.seek(0, 2)
        return any(entry == b"encv" for entry in _sample_entries(file, 0, size))


def _sample_entries(file: BinaryIO, start: int, stop: int) -> Iterator[bytes]:
    """Type of the first sample entry of each track, by walking the boxes between two offsets."""
    while start + 8 <= stop:
        file.seek(start)
        header = file.read(16)
        if len(header) < 8:
            return
        size, kind = struct.unpack(">I4s", header[:8])
        body = start + 8
        if size == 1 and len(header) == 16:
            size = struct.unpack(">Q", header[8:])[0]
            body = start + 16
        end = stop if size == 0 else min(start + size, stop)
        if end < body:
            return
        if kind == b"stsd":
            file.seek(body + 12)
            yield file.read(4)
        elif kind in _CONTAINER_BOXES:
            yield from _sample_entries(file, body, end)
        start = end
