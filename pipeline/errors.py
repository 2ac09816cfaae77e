"""Everything ``pipeline`` raises on purpose, drawn as one tree.

Each message says what was asked, what was found and what to do.
"""

from pathlib import Path


class PipelineError(Exception):
    """Base of everything ``pipeline`` raises on purpose."""


class SettingsError(PipelineError, ValueError):
    """A setting is unknown, malformed or contradicts another."""


class WeightsError(PipelineError):
    """Model weights cannot be had, or do not fit the architecture."""


class VideoError(PipelineError):
    """A video cannot be read as asked; the message starts with its path and is one line, whatever the name."""

    def __init__(self, message: str) -> None:
        super().__init__(
            "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in message)
        )


class NotAVideoError(VideoError):
    """The file's content is not a video: text, audio only, empty, or an unknown container."""


class CorruptVideoError(VideoError):
    """The file is a video but its pictures cannot all be decoded."""

    def __init__(self, message: str, *, promised: int = 0) -> None:
        super().__init__(message)
        self.promised = promised
        """Frames that the video should have, as far as it says."""


class DecoderError(VideoError):
    """A decoder hung, died, ran away with memory or failed on the video; another one may read it."""

    def __init__(self, message: str, *, reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason or str(self)
        """What the decoder did, without the path and the remedy."""

    @classmethod
    def on(cls, path: Path, reason: str) -> "DecoderError":
        """The error of a decoder that did such a thing on a video.

        >>> str(DecoderError.on(Path("film.mp4"), "the decoder hung"))
        'film.mp4: the decoder hung. Re-encode the video, or leave it out.'
        """
        return cls(f"{path}: {reason}. Re-encode the video, or leave it out.", reason=reason)


class TooShortError(VideoError):
    """A video has too few frames for a window of a profile; others may take it."""


class ProcessError(PipelineError):
    """A process that is to help this one cannot be started: no fault of what it was to work on."""


class LabelError(PipelineError, ValueError):
    """A label file, mapping or split cannot be used; the message names the file."""


class DatasetError(PipelineError):
    """The videos, labels and features at hand do not make a data set."""


class TrainingError(PipelineError):
    """Training cannot start or go on."""


class ServerError(PipelineError):
    """A server that the environment names does not answer, or cannot be used."""
