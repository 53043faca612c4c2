"""The worker's end of the wire: receives frames, grants credits, sends acknowledgements.

One ROUTER socket, used by one thread only; other threads hand their acknowledgements over through a queue and a pipe
that wakes the poller. A message that is not of this protocol, or of a line this worker does not serve, is counted and
dropped: it can never become a verdict.
"""

import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import structlog
import zmq
from zmq.auth.thread import ThreadAuthenticator

from inference.job import Job
from inference.recorder import Recorded, Told
from ingest import curve, wire
from ingest.errors import IngestError, WireError
from ingest.preprocess import Preprocessing
from ingest.wake import WakePipe

GRANT_S = 0.5
FORGET_S = 10.0
"""A capture not heard of for this long holds no credits any more."""

log = structlog.get_logger()


@dataclass(slots=True)
class _Peer:
    line: str
    heard: float


class Link:
    """Frames in, grants and acknowledgements out.

    Args:
        endpoint: where captures find this worker.
        keys: CURVE keys, needed for tcp.
        worker: the name of this start of this worker.
        ahead: frames to hold at once, of all lines together: enough that the detector never waits.
        serves: whether a line is this worker's.
        wanted: what a line's model wants to see.
        pinned: whether a line's frames must all come here while this worker lives.
        frame: called with each received job.
        told: called with each beat, gap and portrait; False when there is no room for it now.
    """

    def __init__(
        self,
        *,
        endpoint: str,
        keys: Path | None,
        worker: str,
        ahead: int,
        serves: Callable[[str], bool],
        wanted: Callable[[str], Preprocessing | None],
        pinned: Callable[[str], bool],
        frame: Callable[[Job], None],
        told: Callable[[Told], bool],
    ) -> None:
        self._worker, self._ahead = worker, ahead
        self._serves, self._wanted, self._pinned, self._frame, self._told = serves, wanted, pinned, frame, told
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._guard: ThreadAuthenticator | None = None
        self._wake = WakePipe()
        self._socket = self._context.socket(zmq.ROUTER)
        self._socket.setsockopt(zmq.MAXMSGSIZE, wire.MAX_PAYLOAD_BYTES)
        if curve.needs_curve(endpoint):
            if keys is None:
                raise IngestError(f"{endpoint} is reachable from other machines: name a folder of keys")
            self._guard = curve.authenticator(self._context, keys)
            curve.secure_server(self._socket, keys)
        try:
            self._socket.bind(endpoint)
        except zmq.ZMQError as error:
            self.close()
            raise IngestError(f"cannot listen on {endpoint}: {error}; is another worker using it?") from error
        self._peers: dict[bytes, _Peer] = {}
        self._done: queue.SimpleQueue[tuple[Recorded, bool]] = queue.SimpleQueue()
        self._grant_due = 0.0
        self._draining = False
        self.received = 0
        self.dropped = 0

    def acknowledge(self, recorded: Recorded, *, retry: bool = False) -> None:
        """Tell a capture what is settled (or to be prepared again); from any thread."""
        self._done.put((recorded, retry))
        self._wake.set()

    def serve(self, stop: threading.Event) -> None:
        """Receive until `stop` is set; then grant nothing more and return."""
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        poller.register(self._wake, zmq.POLLIN)
        while not stop.is_set():
            poller.poll(100)
            self._receive()
            self.flush()
            if time.monotonic() >= self._grant_due:
                self.grant()
        self._draining = True
        self.grant()

    def grant(self) -> None:
        """Tell every live capture what it may send."""
        now = time.monotonic()
        self._grant_due = now + GRANT_S
        self._peers = {name: peer for name, peer in self._peers.items() if now - peer.heard < FORGET_S}
        for identity, peer in self._peers.items():
            self._grant(identity, peer)

    def flush(self) -> None:
        """Send the acknowledgements that are ready."""
        self._wake.clear()
        while not self._done.empty():
            recorded, retry = self._done.get()
            ack = wire.Ack(
                line=recorded.line,
                run=recorded.run,
                ranges=list(recorded.ranges),
                portrait=recorded.portrait,
                retry=retry,
            )
            peer = self._peers.get(recorded.peer)
            if retry and peer is not None:
                self._grant(recorded.peer, peer)  # first say what to prepare it for
            self._send(recorded.peer, ack)

    def close(self) -> None:
        """Close the socket, giving what was sent a moment to leave."""
        self._wake.close()
        if self._guard is not None:
            self._guard.stop()
        self._context.destroy(linger=500)

    def _receive(self) -> None:
        for _ in range(256):  # then let acknowledgements and grants out
            try:
                identity, *parts = self._socket.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return
            try:
                message, payload = wire.unpack([part.buffer for part in parts])
                self._take(identity.bytes, message, payload)
            except WireError as error:
                self.dropped += 1
                if self.dropped.bit_count() == 1:  # the 1st, 2nd, 4th, 8th, …: a flood must not fill the log
                    log.warning("dropped a message", worker=self._worker, dropped=self.dropped, error=str(error))

    def _take(self, identity: bytes, message: wire.Message, payload: memoryview | None) -> None:
        if isinstance(message, wire.Grant | wire.Ack):
            raise WireError(f"a {message.kind} message comes from workers, not to them")
        if not self._serves(message.line):
            raise WireError(f"line {message.line} is not served here")
        now = time.monotonic()
        newcomer = identity not in self._peers
        self._peers[identity] = peer = _Peer(message.line, now)
        if newcomer:
            self._grant(identity, peer)
        match message:
            case wire.FrameHeader():
                self.received += 1
                pixels = None if payload is None else wire.pixels(message, payload)
                deadline = None if message.deadline_ms is None else now + message.deadline_ms / 1e3
                self._frame(Job(identity, message, pixels, deadline))
            case wire.Beat():
                self._told(message)
            case wire.Gap():
                self._told((identity, message))
            case wire.Portrait():
                self._told((message, bytes(payload or b"")))

    def _grant(self, identity: bytes, peer: _Peer) -> None:
        lines = len({other.line for other in self._peers.values()})
        share = max(2, -(-self._ahead // lines))
        grant = wire.Grant(
            worker=self._worker,
            line=peer.line,
            credits=0 if self._draining else share,
            preprocessing=self._wanted(peer.line),
            pinned=self._pinned(peer.line),
        )
        self._send(identity, grant)

    def _send(self, identity: bytes, message: wire.Message) -> None:
        try:
            self._socket.send_multipart([identity, *wire.pack(message)], zmq.NOBLOCK)
        except zmq.Again:
            log.warning("capture does not read its acknowledgements", worker=self._worker, kind=message.kind)
