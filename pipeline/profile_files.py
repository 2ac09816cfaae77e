"""Profiles that a user wrote down: a TOML file with a table for each."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.errors import SettingsError
from pipeline.profiles import BUILT_IN, Profile, parse_profile


def read_profiles(path: Path) -> dict[str, Profile]:
    """The built-in profiles and those of a file, by name.

    A table is a profile: ``base`` names the built-in one it starts from, every other key is a setting as in
    ``name:key=value``; ``streams`` may be a list.

    Raises:
        SettingsError: The file cannot be read, is no TOML, or a profile in it cannot be used; the message names it.
    """
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read ({error.strerror}). Check the path.") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"{path}: is no TOML ({error}). Correct it.") from error
    profiles = dict(BUILT_IN)
    for name, table in tables.items():
        try:
            profiles[name] = _profile(name, table)
        except SettingsError as error:
            raise SettingsError(f"{path}: [{name}]: {error}") from error
    return profiles


def _profile(name: str, table: object) -> Profile:
    if not isinstance(table, Mapping) or not isinstance(table.get("base"), str):
        raise SettingsError(
            f"a profile is a table with the key `base`, one of {', '.join(sorted(BUILT_IN))}. Add it."
        )
    settings = {key: _text(key, value) for key, value in table.items() if key != "base"}
    parts = [table["base"], *(f"{key}={value}" for key, value in settings.items()), f"name={name}"]
    return parse_profile(":".join(parts))


def _text(key: str, value: Any) -> str:  # noqa: ANN401  (any TOML value)
    if isinstance(value, list):
        return "+".join(_text(key, part) for part in value)
    if isinstance(value, bool) or not isinstance(value, (str, int, float)) or ":" in str(value):
        raise SettingsError(f"{key} = {value!r} is no setting of a profile; give a number or a word.")
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
