"""What can go wrong in storage. Exceptions of Redis, SQL and the file system are mapped to these where they enter.

::

    StorageError
    ├── StoreUnavailable   Redis or the database does not answer; trying again later may work
    ├── BundleError        a model bundle is missing, incomplete or not what its manifest says
    └── StorageFull        the disk has no room for what must be written
"""


class StorageError(Exception):
    """Base of all storage errors: one line naming the thing, the value and the mend."""


class StoreUnavailable(StorageError):  # noqa: N818 - a state of the world, not a mistake
    """Redis or the database cannot be reached or refuses."""


class BundleError(StorageError):
    """A model bundle cannot be used."""


class StorageFull(StorageError):  # noqa: N818 - a state of the world, not a mistake
    """The disk has no room."""
