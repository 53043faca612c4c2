"""One worker as a capture sees it: its socket, its name, its credits, and what it wants to see."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog
import zmq

from ingest import curve, wire
from ingest.errors import IngestError, WireError
from ingest.preprocess import Preprocessing

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class View:
    """What the line's own configuration says about the picture."""

    roi: tuple[int, int, int, int] | None = None
    mask: tuple[tuple[int, int], ...] | None = None

    def apply(self, wanted: Preprocessing) -> Preprocessing:
        """Combine with what the model wants.

        Raises:
            IngestError: the model was fitted on another region than this line looks at.
        """
        for name in ("roi", "mask"):
            ours, theirs = getattr(self, name), getattr(wanted, name)
            # A model may have been fitted on pictures of the region itself. A mask, though, paints the picture: a
            # model that never saw it painted would find the paint anomalous.
            cropped_before = name == "roi" and theirs is None
            if ours != theirs and not cropped_before:
                raise IngestError(f"{name} of the line ({ours}) is not the one its model was fitted with ({theirs})")
        return wanted.model_copy(update={"roi": self.roi, "mask": self.mask})


class WorkerLink:
    """A DEALER socket to one worker and what that worker last granted.

    Attributes:
        worker: name of the worker's present start; None while it is not heard of.
        credits: frames it may hold at once.
        preprocessing: what it wants to see; None while it has no model.
        preparation: digest of that, as the worker names it.
        connection: which of the worker's connections this is.
        pinned: the line stays with one worker while that lives.
        mismatch: its model looks at another region than this line.
        heard: monotonic seconds of its last message.
    """

    def __init__(
        self, context: zmq.Context[zmq.Socket[bytes]], *, endpoint: str, line: str, view: View, keys: Path | None
    ) -> None:
        self.endpoint = endpoint
        self.worker: str | None = None
        self.credits = 0
        self.preprocessing: Preprocessing | None = None
        self.preparation: str | None = None
        self.connection = 0
        self.pinned = False
        self.mismatch = False
        self.heard = float("-inf")
        self.dropped = 0
        self._line, self._view = line, view
        self.socket = context.socket(zmq.DEALER)
        self.socket.setsockopt(zmq.IMMEDIATE, 1)  # nothing is queued for a worker that is not there
        self.socket.setsockopt(zmq.MAXMSGSIZE, wire.MAX_HEADER_BYTES)  # workers send no pictures
        self.socket.setsockopt(zmq.RECONNECT_IVL, 100)
        self.socket.setsockopt(zmq.RECONNECT_IVL_MAX, 1000)
        if curve.needs_curve(endpoint):
            if keys is None:
                raise IngestError(f"{endpoint} is reachable from other machines: name a folder of keys")
            curve.secure_client(self.socket, keys, line=line)
        self.socket.connect(endpoint)

    def receive(self, now: float) -> Iterator[wire.Message]:
        """Everything that has arrived; malformed messages are dropped."""
        while True:
            try:
                parts = self.socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            try:
                message, _ = wire.unpack(parts)
            except WireError as error:
                self.dropped += 1
                if self.dropped.bit_count() == 1:  # the 1st, 2nd, 4th, …: a flood must not fill the log
                    log.warning("dropped a message", line=self._line, endpoint=self.endpoint, error=str(error))
                continue
            self.heard = now
            yield message

    def send(self, parts: Sequence[wire.Buffer]) -> bool:
        """Send without waiting; False when the worker is away or does not read."""
        try:
            self.socket.send_multipart(parts, zmq.NOBLOCK, copy=False)
        except zmq.Again:
            return False
        return True

    def accept(self, grant: wire.Grant) -> None:
        """Take over what the worker allows and wants."""
        self.worker, self.credits, self.preprocessing = grant.worker, grant.credits, None
        self.connection, self.pinned = grant.connection, grant.pinned
        self.preparation = None if grant.preprocessing is None else grant.preprocessing.digest()
        mismatch = False
        if grant.preprocessing is not None:
            try:
                self.preprocessing = self._view.apply(grant.preprocessing)
            except IngestError as error:
                mismatch = True
                if not self.mismatch:
                    log.error("frames cannot be judged", line=self._line, error=str(error))  # noqa: TRY400 - one line
        self.mismatch = mismatch

    def forget(self) -> None:
        """Treat the worker as gone until it is heard of again."""
        self.worker, self.credits = None, 0
