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


class MissingArtefactError(StorageError, LookupError):
    """Nothing is stored under the name asked for."""


class CorruptArtefactError(StorageError):
    """A stored file cannot be read back as what its name promises."""


class InvalidNameError(StorageError, ValueError):
    """A video id or class name cannot be used as a name in the store."""
