"""Everything ``fact`` raises on purpose, drawn as one tree.

Each message says what was asked, what was found and what to do.
"""


class FactError(Exception):
    """Base of everything ``fact`` raises on purpose."""


class ConfigError(FactError, ValueError):
    """A setting is unknown, malformed or contradicts another."""


class FeatureError(FactError, ValueError):
    """Features, their mask or a transcript cannot be given to the model."""


class TargetError(FactError, ValueError):
    """Labels do not fit the classes or the output they are compared with."""


class MatchError(FactError):
    """Tokens cannot be given to segments: too few tokens, or costs that are not finite."""


class CheckpointError(FactError):
    """A state dict does not fit the model; the message lists every difference."""
