"""Nested mappings with the published keys to dataclasses and back; standard library only.

A dataclass field states its published key in ``metadata["key"]`` (default: its own name). Null means "not
given": the default, or for a block the value it inherits.
"""

import difflib
import math
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any, Literal, TypeVar, Union

from fact.errors import ConfigError

T = TypeVar("T")


def as_mapping(source: object, *, where: str = "") -> dict[str, object]:
    """Nested dictionaries of a mapping or of any object with the published keys as attributes.

    ``"None"`` as a string becomes None.

    Raises:
        ConfigError: the source is neither, or a key is not a string.

    >>> as_mapping({"FACT": {"ntoken": 5}, "feature_path": "None"})
    {'FACT': {'ntoken': 5}, 'feature_path': None}
    """
    if isinstance(source, Mapping):
        items = dict(source)
    elif isinstance(source, type) or hasattr(source, "__dict__"):
        items = _attributes(source)
    else:
        raise ConfigError(f"{where or 'The configuration'} must be a mapping of keys, found {source!r}.")
    for key in items:
        if not isinstance(key, str):
            raise ConfigError(f"Keys of {where or 'the configuration'} must be strings, found {key!r}.")
    return {key: _plain(value, where=_join(where, key)) for key, value in items.items()}


def _attributes(source: object) -> dict[Any, object]:
    names = (name for name in dir(source) if not name.startswith("_"))
    found = {name: getattr(source, name) for name in names}
    return {name: value for name, value in found.items() if not callable(value) or isinstance(value, type)}


def _plain(value: object, *, where: str) -> object:
    if value == "None":
        return None
    if value is None or isinstance(value, str | bool | int | float | Sequence):
        return value
    return as_mapping(value, where=where)


def _join(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key


def reject_unknown(found: Iterable[str], known: Iterable[str], *, where: str = "") -> None:
    """Raise for the first key that is not known, naming the nearest one that is."""
    known = sorted(known)
    for key in found:
        if key in known:
            continue
        nearest = difflib.get_close_matches(key, known, n=1, cutoff=0.0)
        hint = f" Did you mean {_join(where, nearest[0])!r}?" if nearest else ""
        raise ConfigError(f"Unknown configuration key {_join(where, key)!r}.{hint}")


def published_key(field: Field[Any]) -> str:
    """The key of a field in users' files."""
    return str(field.metadata.get("key", field.name))


def plain_fields(cls: type) -> dict[str, Field[Any]]:
    """Fields of a settings class that hold values, not sections, by published key."""
    hints = typing.get_type_hints(cls)
    return {
        published_key(field): field
        for field in fields(cls)
        if not is_dataclass(hints[field.name]) and field.metadata.get("key", field.name)
    }


def build(cls: type[T], given: Mapping[str, object], *, where: str = "", **sections: object) -> T:
    """One settings object from the keys of one section; None takes the default.

    Raises:
        ConfigError: a key is unknown or its value has the wrong type.
    """
    known = plain_fields(cls)
    reject_unknown(given, known, where=where)
    hints = typing.get_type_hints(cls)
    values = {
        known[key].name: convert(value, known[key], hints[known[key].name], where=_join(where, key))
        for key, value in given.items()
        if value is not None
    }
    return cls(**values, **sections)


def dump(section: object) -> dict[str, object]:
    """The JSON-able mapping of one section with published keys; inverse of :func:`build`."""
    result: dict[str, object] = {}
    for key, field in plain_fields(type(section)).items():
        value = getattr(section, field.name)
        if value is None:
            value = field.metadata.get("null")
        result[key] = list(value) if isinstance(value, tuple) else value
    return result


def convert(value: object, field: Field[Any], hint: object, *, where: str) -> object:
    """A value as its field's type, where the conversion loses nothing.

    Raises:
        ConfigError: it would lose something, or the value is not one of the choices.
    """
    if "null" in field.metadata and value == field.metadata["null"]:
        return None
    kind = _without_none(hint)
    if typing.get_origin(kind) is Literal:
        return _choice(value, typing.get_args(kind), where=where)
    if typing.get_origin(kind) is tuple:
        return _integers(value, where=where)
    converted = _scalar(value, kind)
    if converted is MISSING:
        wanted = getattr(kind, "__name__", str(kind))
        raise ConfigError(f"{where} must be of type {wanted}, found {value!r}.")
    return converted


def _without_none(hint: object) -> object:
    if typing.get_origin(hint) in (Union, types.UnionType):
        return next(part for part in typing.get_args(hint) if part is not type(None))
    return hint


def _scalar(value: object, kind: object) -> object:
    if kind is float:
        return _number(value)
    if kind is int and isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, bool) is not (kind is bool):
        return MISSING
    return value if isinstance(value, kind) else MISSING  # type: ignore[arg-type]


def _number(value: object) -> object:
    # YAML 1.1 reads 1e-4, which has no dot, as a string: users' files rely on its being a number.
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return MISSING
    try:
        number = float(value)
    except ValueError:
        return MISSING
    return number if math.isfinite(number) else MISSING


def _choice(value: object, choices: tuple[object, ...], *, where: str) -> object:
    if value in choices:
        return value
    raise ConfigError(f"{where} must be one of {', '.join(map(repr, choices))}, found {value!r}.")


def _integers(value: object, *, where: str) -> tuple[int, ...]:
    items = list(value) if isinstance(value, Sequence) and not isinstance(value, str) else [value]
    for item in items:
        if isinstance(item, bool) or not isinstance(item, int) or item < 0:
            raise ConfigError(f"{where} must be a class id or a list of class ids, found {value!r}.")
    return tuple(typing.cast("list[int]", items))
