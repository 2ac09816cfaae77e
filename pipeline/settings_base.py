"""What all settings have in common."""

from pydantic import BaseModel, ConfigDict


class StrictSettings(BaseModel):
    """Base of all settings: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
