"""The worker's end of the wire: receives frames, grants credits, sends acknowledgements.

One ROUTER socket, used by one thread only; other threads hand their acknowledgements over through a queue and a pipe
that wakes the poller. A message that is not of this protocol, of a line this worker does not serve, or of one that its
sender may not speak for, is counted and dropped: it can never become a verdict. So are frames beyond the credits and
pictures nobody asked for: what a camera does must not grow this process.
"""

import itertools
import queue
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import structlog
import zmq
from zmq.auth.thread import ThreadAuthenticator

from inference.job import Job
from inference.recorder import Recorded, Told
from ingest import curve, wire
from ingest.allowlist import Allowed, AllowList
from ingest.errors import IngestError, WireError
from ingest.preprocess import Preprocessing
from ingest.wake import WakePipe

GRANT_S = 0.5
FORGET_S = 10.0
"""A capture not heard of for this long holds no credits any more."""
MAX_PEERS = 16
"""Most connections of one line at once; a capture that is started again leaves one behind for `FORGET_S`."""
MAX_ASKED = 256
"""Most pictures that may be on their way."""
_QUEUED = 64
"""Messages of one connection that ZeroMQ holds before it makes the sender wait."""

log = structlog.get_logger()


@dataclass(slots=True)
class _Peer:
    line: str
    run: str | None
    """The one that its frames and beats are of."""
    heard: float
    number: int
    """Of this connection, among all there were."""
    key: str = ""
    """Its public key; empty on a unix socket."""


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
        self._socket.setsockopt(zmq.RCVHWM, _QUEUED)
        self._allow_list: AllowList | None = None
        self._allowed: Allowed = {}
        if curve.needs_curve(endpoint):
            if keys is None:
                raise IngestError(f"{endpoint} is reachable from other machines: name a folder of keys")
            self._secure(keys)
        try:
            self._socket.bind(endpoint)
        except zmq.ZMQError as error:
            self.close()
            raise IngestError(f"cannot listen on {endpoint}: {error}; is another worker using it?") from error
        self._peers: dict[bytes, _Peer] = {}
        self._numbers = itertools.count(1)
        self._done: queue.SimpleQueue[tuple[Recorded, bool]] = queue.SimpleQueue()
        self._grant_due = 0.0
        self._draining = False
        self._held: Counter[str] = Counter()
        """Line -> frames that have not been acknowledged yet."""
        self._asked: OrderedDict[tuple[str, str, int], None] = OrderedDict()
        self.received = 0
        self.dropped = 0
        self.strangers = 0

    def acknowledge(self, recorded: Recorded, *, retry: bool = False) -> None:
        """Tell a capture what is settled (or to be prepared again); from any thread."""
        self._done.put((recorded, retry))
        self._wake.set()

    def serve(self, stop: threading.Event, turn: Callable[[], None] = lambda: None) -> None:
        """Receive until `stop` is set; then grant nothing more and return. Calls `turn` every tenth of a second."""
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        poller.register(self._wake, zmq.POLLIN)
        while not stop.is_set():
            poller.poll(100)
            self._receive()
            self.flush()
            if time.monotonic() >= self._grant_due:
                self.grant()
            turn()
        self._draining = True
        self.grant()

    def grant(self) -> None:
        """Tell every live capture what it may send."""
        now = time.monotonic()
        self._grant_due = now + GRANT_S
        self._read_allowed()
        self._peers = {
            name: peer
            for name, peer in self._peers.items()
            if now - peer.heard < FORGET_S and self._may_speak(peer.key, peer.line)
        }
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
            if not recorded.gap:
                self._held[recorded.line] -= sum(last - first + 1 for first, last in recorded.ranges)
            if retry and peer is not None:
                self._grant(recorded.peer, peer)  # first say what to prepare it for
            if recorded.portrait:
                self._ask(recorded)
            self._send(recorded.peer, ack)

    def close(self) -> None:
        """Close the socket, giving what was sent a moment to leave."""
        self._wake.close()
        if self._guard is not None:
            self._guard.stop()
        self._context.destroy(linger=500)

    def _secure(self, keys: Path) -> None:
        """Encrypt, and let nobody in but those who are allowed."""
        self._allow_list = AllowList(keys)
        self._read_allowed()
        for path in self._allow_list.unbound():
            log.warning(
                "a key names no line: it lets nobody in",
                key=str(path),
                mend=f"linewatch keys allow CONFIG LINE {path}",
            )
        self._guard = curve.authenticator(self._context, self._read_allowed, turned_away=self._turned_away)
        curve.secure_server(self._socket, keys)

    def _turned_away(self, key: str) -> None:
        """Count a stranger; in the authenticator's thread."""
        self.strangers += 1
        if self.strangers.bit_count() == 1:
            log.warning("a stranger was turned away", worker=self._worker, strangers=self.strangers, key=key)

    def _read_allowed(self) -> Allowed:
        """Look who may speak for what now; at every handshake, and now and then for keys that were revoked."""
        if self._allow_list is not None:
            try:
                self._allowed = self._allow_list.read()
            except OSError as error:
                self._allowed = {}
                log.error("allow list cannot be read: nobody is heard", worker=self._worker, error=str(error))  # noqa: TRY400 - one line
        return self._allowed

    def _may_speak(self, key: str, line: str) -> bool:
        return self._allow_list is None or line in self._allowed.get(key.encode(), ())

    def _receive(self) -> None:
        for _ in range(256):  # then let acknowledgements and grants out
            try:
                identity, *parts = self._socket.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return
            try:
                message, payload = wire.unpack([part.buffer for part in parts])
                self._admit(identity, message)
                self._take(identity.bytes, message, payload)
            except WireError as error:
                self.dropped += 1
                if self.dropped.bit_count() == 1:  # the 1st, 2nd, 4th, 8th, …: a flood must not fill the log
                    log.warning("dropped a message", worker=self._worker, dropped=self.dropped, error=str(error))

    def _admit(self, identity: zmq.Frame, message: wire.Message) -> None:
        """Note that its sender lives, if it may send this.

        Raises:
            WireError: it may not.
        """
        if isinstance(message, wire.Grant | wire.Ack):
            raise WireError(f"a {message.kind} message comes from workers, not to them")
        line, name, now = message.line, identity.bytes, time.monotonic()
        if not self._serves(line):
            raise WireError(f"line {line} is not served here")
        peer = self._peers.get(name)
        key = self._key(identity) if peer is None else peer.key
        if not self._may_speak(key, line):
            raise WireError(f"the sender's key may not speak for line {line}")
        run = message.run if isinstance(message, wire.FrameHeader | wire.Beat) else None
        if peer is None:
            if sum(other.line == line for other in self._peers.values()) >= MAX_PEERS:
                raise WireError(f"line {line} has {MAX_PEERS} connections already")
            self._peers[name] = peer = _Peer(line, run, now, next(self._numbers), key)
            self._grant(name, peer)
        elif run is not None and run != (peer.run or run):
            raise WireError(f"line {line} began another run on the same connection")
        peer.line, peer.run, peer.heard = line, peer.run or run, now

    def _key(self, identity: zmq.Frame) -> str:
        """The sender's public key, as the authenticator found it; empty on a unix socket."""
        if self._allow_list is None:
            return ""
        try:
            return str(identity.get("User-Id"))
        except zmq.ZMQError as error:
            raise WireError("the sender has no key") from error

    def _take(self, identity: bytes, message: wire.Message, payload: memoryview | None) -> None:
        match message:
            case wire.FrameHeader():
                self._take_frame(identity, message, payload)
            case wire.Beat():
                self._told(message)
            case wire.Gap():
                self._told((identity, message))
            case wire.Portrait():
                frame = (message.line, message.run, message.seq)
                if frame not in self._asked:
                    raise WireError(f"nobody asked for the picture of frame {message.seq} of line {message.line}")
                del self._asked[frame]
                self._told((message, bytes(payload or b"")))

    def _take_frame(self, identity: bytes, header: wire.FrameHeader, payload: memoryview | None) -> None:
        again = wire.Ack(line=header.line, run=header.run, ranges=[(header.seq, header.seq)], retry=True)
        # Twice what one line is ever granted: one that was started again sends while its old frames are being judged.
        if self._held[header.line] >= 2 * self._ahead:
            self._send(identity, again)
            raise WireError(f"line {header.line} sends more frames than it was granted")
        self.received += 1
        log.debug("received", verdict=header.id, worker=self._worker)
        wanted = self._wanted(header.line)
        if payload is not None and (wanted is None or not wanted.made(header.shape, header.preparation)):
            self._grant(identity, self._peers[identity])  # prepared for the model before this one
            self._send(identity, again)
            return
        self._held[header.line] += 1
        pixels = None if payload is None else wire.pixels(header, payload)
        deadline = None if header.deadline_ms is None else time.monotonic() + header.deadline_ms / 1e3
        self._frame(Job(identity, header, pixels, deadline))

    def _ask(self, recorded: Recorded) -> None:
        """Note whose pictures are asked for: no others are taken."""
        for first, last in recorded.ranges:
            for seq in range(first, last + 1):
                self._asked[recorded.line, recorded.run, seq] = None
        while len(self._asked) > MAX_ASKED:
            self._asked.popitem(last=False)

    def _grant(self, identity: bytes, peer: _Peer) -> None:
        lines = len({other.line for other in self._peers.values()})
        share = min(max(2, -(-self._ahead // lines)), wire.MAX_CREDITS)
        grant = wire.Grant(
            worker=self._worker,
            line=peer.line,
            credits=0 if self._draining else share,
            connection=peer.number,
            preprocessing=self._wanted(peer.line),
            pinned=self._pinned(peer.line),
        )
        self._send(identity, grant)

    def _send(self, identity: bytes, message: wire.Message) -> None:
        try:
            self._socket.send_multipart([identity, *wire.pack(message)], zmq.NOBLOCK)
        except zmq.Again:
            log.warning("capture does not read its acknowledgements", worker=self._worker, kind=message.kind)
