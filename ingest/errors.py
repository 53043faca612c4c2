"""What can go wrong between a camera and the wire.

Exceptions of OpenCV, ZeroMQ and the file system are mapped to these where they enter::

    camera ──> source ──> preprocess ──> publisher ══ wire ══> worker
             SourceError   ImageError                 WireError

    IngestError
    ├── SourceError      the camera, file or folder cannot be opened, or names a kind that does not exist
    ├── ImageError       one picture cannot be used (corrupt, empty, too large)
    └── WireError        a message is not of this protocol
"""


class IngestError(Exception):
    """Base of all of ingest's errors: one line naming the thing, the value and the mend."""


class SourceError(IngestError):
    """A source cannot be opened or was asked for something it does not know."""


class ImageError(IngestError):
    """One picture cannot be used; others may."""


class WireError(IngestError):
    """A received message is malformed; it is counted and dropped."""
