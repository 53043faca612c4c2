"""The noun of inference: one received frame on its way to a verdict."""

from dataclasses import dataclass

from ingest.preprocess import RGB
from ingest.wire import FrameHeader


@dataclass(frozen=True, slots=True)
class Job:
    """A frame as the worker holds it.

    Attributes:
        peer: ZeroMQ identity of the capture that sent it and waits for its acknowledgement.
        header: what capture said about it.
        pixels: `[h, w, 3]` uint8 RGB, read-only; None when there is nothing to judge.
        deadline: monotonic seconds on this host after which a verdict is of no use; None: never.
    """

    peer: bytes
    header: FrameHeader
    pixels: RGB | None
    deadline: float | None
