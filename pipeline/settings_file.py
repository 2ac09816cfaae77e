"""Files of settings: TOML or YAML in, a nested mapping out."""

import tomllib
from pathlib import Path
from typing import Any

import yaml

from pipeline.errors import SettingsError


def read_settings_file(path: Path) -> dict[str, Any]:
    """The nested mapping in a TOML or YAML file.

    Raises:
        SettingsError: The file is missing, of another kind, malformed, or holds no mapping.
    """
    suffix = path.suffix.lower()
    if suffix not in {".toml", ".yaml", ".yml"}:
        raise SettingsError(f"{path}: settings are read from a file ending in .toml, .yaml or .yml.")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise SettingsError(
            f"{path}: the settings cannot be read ({error.strerror}). Check the path."
        ) from error
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path} is not UTF-8 text. Save it as UTF-8.") from error
    try:
        values = tomllib.loads(text) if suffix == ".toml" else yaml.safe_load(text)
    except (tomllib.TOMLDecodeError, yaml.YAMLError) as error:
        # PyYAML spreads its message over several indented lines.
        reason = " ".join(str(error).split())
        raise SettingsError(f"{path} is malformed: {reason}. Correct it.") from error
    if not isinstance(values, dict):
        raise SettingsError(
            f"{path} holds no settings. Write `key: value` lines (YAML) or `key = value` (TOML)."
        )
    return values
