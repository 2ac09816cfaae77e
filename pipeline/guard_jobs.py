"""What a decoding process can be asked to do; a module of its own, because both ends must mean the same class."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """Answer with the value of a function."""

    path: Path
    function: Callable[..., Any]
    arguments: tuple[Any, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Stream:
    """Answer with the pictures that a reader gives, through a ring whose descriptor follows this message."""

    path: Path
    reader: Callable[..., Any]
    arguments: tuple[Any, ...]
    frame_shape: tuple[int, int, int]
    batch_frames: int
    slot_bytes: int
    slots: int
