"""Everything ``storage`` raises on purpose, drawn as one tree.

Each message says what was asked, what was found and what to do.
"""


class StorageError(Exception):
    """Base of everything ``storage`` raises on purpose."""


class StoreError(StorageError):
    """The folder is not a store, is of a version this program does not know, or cannot be written."""


class TrackingError(StorageError):
    """Runs and models cannot be registered where the environment says."""


class LeaseLostError(StorageError):
    """Another process took over the work on an artefact of an object store."""


class DiskFullError(StorageError):
    """There is no room for a file, on the disk or in the quota."""

    @classmethod
    def writing(cls, what: object, reason: str) -> "DiskFullError":
        """The error of not being able to write a file.

        >>> str(DiskFullError.writing("a.parquet", "No space left on device"))[:64]
        'There is no room to write a.parquet (No space left on device). F'
        """
        return cls(
            f"There is no room to write {what} ({reason}). "
            "Free some space, `factseg gc --dry-run` says where, then run the same command again."
        )


class MissingArtefactError(StorageError, LookupError):
    """Nothing is stored under the name asked for."""


class CorruptArtefactError(StorageError):
    """A stored file cannot be read back as what its name promises."""


class InvalidNameError(StorageError, ValueError):
    """A video id or class name cannot be used as a name in the store."""
