"""What a source is: something that grabs pictures, one after the other."""

from dataclasses import dataclass
from typing import Protocol

from ingest.frame import Picture


@dataclass(frozen=True, slots=True)
class Grab:
    """One picture as it came from the source.

    Attributes:
        picture: `[H, W, 3]` uint8 BGR, or None when this one could not be decoded (never a reason to stop).
        name: what a person would call it: a file name, or a position in a video.
        part: identity of the part in view, when the source knows it.
    """

    picture: Picture | None
    name: str
    part: str | None = None


class Source(Protocol):
    """A camera, or something that stands in for one.

    `live` says who sets the pace. A live source (camera, video at its own rate) goes on whether or not anyone keeps
    up, so frames may have to be given up, and each is accounted for. A source that is not live (folder, video at
    `?rate=max`) waits, so none of its frames is ever given up.
    """

    live: bool
    fps: float | None
    """Pictures a second of the scene itself, however fast they are taken; None: not known."""

    def grab(self) -> Grab | None:
        """Wait for the next picture; None when a source that ends has ended.

        Raises:
            SourceError: the source is gone for now (camera unplugged, stream broken). Call again to reconnect; the
                caller spaces the attempts.
        """
        ...

    def close(self) -> None:
        """Release the device or file. Safe to call twice, and from another thread to end a blocked `grab`."""
        ...
