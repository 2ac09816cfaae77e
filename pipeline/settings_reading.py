"""Settings out of nested mappings: validated, with the nearest key named where one is unknown."""

import difflib
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from pipeline.errors import SettingsError
from pipeline.settings_base import StrictSettings

Settings = TypeVar("Settings", bound=StrictSettings)


def build_settings(kind: type[Settings], values: Mapping[str, Any], *, source: str) -> Settings:
    """Validated settings of one kind.

    Args:
        kind: ``RunSettings`` or another class above.
        values: Nested mapping.
        source: Where the values come from, for the message.

    Raises:
        SettingsError: A key is unknown or a value does not fit; the message names the key and the nearest one.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        problems = [_explain(kind, problem).removesuffix(".") for problem in error.errors()]
        raise SettingsError(f"{source}: " + "; ".join(problems) + ".") from error


def _explain(kind: type[BaseModel], problem: Any) -> str:  # noqa: ANN401  (pydantic's ErrorDetails)
    where = ".".join(str(part) for part in problem["loc"]) or "settings"
    if problem["type"] == "extra_forbidden":
        known = _keys_at(kind, problem["loc"][:-1])
        close = difflib.get_close_matches(str(problem["loc"][-1]), known, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(known)}"
        return f"unknown key {where!r}: {hint}"
    return f"{where}: {str(problem['msg']).removeprefix('Value error, ')}"


def _keys_at(kind: type[BaseModel], location: tuple[Any, ...]) -> list[str]:
    for part in location:
        annotation = kind.model_fields[str(part)].annotation
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return []
        kind = annotation
    return list(kind.model_fields)
