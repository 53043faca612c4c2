"""From ledger to workers: credits, acknowledgements, resending.

One DEALER socket per worker. A frame is sent only against a credit, stays in the ledger until its acknowledgement, and
goes to another worker when the one that held it falls silent or comes back under a new name. (A PUSH socket forgets
what a dead worker held.)
"""

import threading
import time
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import structlog
import zmq

from ingest import wire
from ingest.errors import ImageError
from ingest.frame import Condition, Frame
from ingest.journal import leftovers
from ingest.ledger import GivenUp, Ledger
from ingest.pictures import encode_jpeg
from ingest.preprocess import prepare
from ingest.wake import WakePipe
from ingest.workerlink import View, WorkerLink

BEAT_S = 1.0
SILENT_S = 3.0
"""A worker not heard of for this long is treated as lost (it grants every half second)."""
LEFTOVER_GRACE_S = 3.0
"""Frames of a killed capture may still be under way in a worker: its verdicts come first, then the gap is closed."""

_NAMED = 16
"""Most frames of a gap whose ids are logged."""

log = structlog.get_logger()


class Publisher:
    """Offers the frames of one line to its workers; runs in a thread of its own."""

    def __init__(
        self,
        *,
        line: str,
        run: str,
        ledger: Ledger,
        view: View,
        endpoints: Sequence[str],
        journal: Path,
        keys: Path | None,
    ) -> None:
        self.line, self.run_id = line, run
        self._line, self._run, self._ledger = line, run, ledger
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._links = [
            WorkerLink(self._context, endpoint=endpoint, line=line, view=view, keys=keys) for endpoint in endpoints
        ]
        self._pinned: WorkerLink | None = None
        self._lock = threading.Condition()
        self._wake = WakePipe()
        self._next_seq = 0
        self._condition = Condition.OK
        self._beat_due = float("-inf")
        self._ending: Literal["no", "drain", "now"] = "no"
        self._source_ended = False
        self._source_losses = 0
        # Our own run has a journal too: it is being counted, not left over.
        self._old = [left for left in leftovers(journal, line=line) if left.run != run]
        self._old_due = time.monotonic() + LEFTOVER_GRACE_S
        self.ready = threading.Event()
        """Set once a worker has been heard of."""
        self.settled = False
        """True once everything of this run is accounted for and the workers were told that it ended."""

    def offer(self, frame: Frame, *, wait: bool, stop: threading.Event) -> None:
        """Take a frame from the camera; with `wait`, block while the buffer is full (the source can wait)."""
        with self._lock:
            while wait and self._ledger.full and not stop.is_set():
                self._lock.wait(0.2)
            self._ledger.admit(frame)
            self._next_seq = frame.seq + 1
        self._wake.set()

    def report(self, condition: Condition) -> None:
        """Tell the workers about the camera; a change is told at once."""
        with self._lock:
            if condition is self._condition:
                return
            self._condition = condition
            self._source_losses += condition is Condition.LOST
            self._beat_due = float("-inf")
        self._wake.set()

    def finish(self, how: Literal["drain", "now"], *, source_ended: bool = False) -> None:
        """No more frames come: `drain` waits for every verdict, `now` gives up what is still open.

        `source_ended` tells a line whose source came to its end from one whose capture was stopped: the silence that
        follows is no fault.
        """
        with self._lock:
            self._ending = how
            self._source_ended = self._source_ended or source_ended
        self._wake.set()

    def run(self, *, stop: threading.Event, turn: Callable[[], None] = lambda: None) -> None:
        """Serve until the run is settled or `stop` is set; calls `turn` at least every tenth of a second."""
        poller = zmq.Poller()
        poller.register(self._wake, zmq.POLLIN)
        for link in self._links:
            poller.register(link.socket, zmq.POLLIN)
        try:
            while not stop.is_set() and not self.settled:
                poller.poll(100)
                self._wake.clear()
                self.step(time.monotonic())
                turn()
        finally:
            self._context.destroy(linger=500)
        self._wake.close()  # not after a failure: the camera's thread may be about to use it

    def step(self, now: float) -> None:
        """Do everything that can be done now."""
        for link in self._links:
            self._receive(link, now)
        with self._lock:
            self._lose_silent(now)
            if self._ending == "now":
                self._ledger.abandon_all("capture stopped")
            self._ledger.expire(now)
            self._lock.notify_all()
        self._send_frames()
        self._tell_gaps(now)
        if now >= self._beat_due:
            self._beat(now)
        if self._ending != "no" and self._ledger.open == 0 and not self._old:
            self._beat(now, ended=True)
            self.settled = True

    def _receive(self, link: WorkerLink, now: float) -> None:
        for message in link.receive(now):
            if isinstance(message, wire.Grant):
                self._granted(link, message)
            elif isinstance(message, wire.Ack):
                self._acknowledged(link, message)

    def _granted(self, link: WorkerLink, grant: wire.Grant) -> None:
        # What was under way on a connection that broke may be lost, though its worker lives.
        if link.worker == grant.worker and link.connection != grant.connection:
            self._take_back(link, "connection replaced")
        if link.worker != grant.worker:
            if link.worker is not None:
                self._take_back(link)
            log.info("worker ready", line=self._line, run=self._run, worker=grant.worker)
            self.ready.set()
        link.accept(grant)

    def _acknowledged(self, link: WorkerLink, ack: wire.Ack) -> None:
        if ack.run != self._run:
            for old in [old for old in self._old if old.run == ack.run]:
                old.forget()
                self._old.remove(old)
            return
        with self._lock:
            if ack.retry:
                self._ledger.retry(ack.ranges)
                return
            frames = self._ledger.settle(ack.ranges, time.monotonic())
            self._lock.notify_all()
        for frame in frames:
            log.debug("settled", verdict=frame.id, worker=link.worker)
        if not ack.portrait:
            return
        for frame in frames:
            self._send_portrait(link, frame)

    def _send_portrait(self, link: WorkerLink, frame: Frame) -> None:
        if frame.picture is None:
            return
        try:
            encoded = encode_jpeg(frame.picture)
        except ImageError as error:
            log.warning("no picture for the evidence", verdict=frame.id, error=str(error))
            return
        link.send(wire.pack(wire.Portrait(line=frame.line, run=frame.run, seq=frame.seq), encoded))

    def _lose_silent(self, now: float) -> None:
        for link in self._links:
            if link.worker is not None and now - link.heard > SILENT_S:
                self._lose(link)

    def _lose(self, link: WorkerLink) -> None:
        self._take_back(link)
        link.forget()

    def _take_back(self, link: WorkerLink, why: str = "worker lost") -> None:
        with self._lock:
            taken = self._ledger.worker_lost(link.worker or "")
        log.warning(why, line=self._line, run=self._run, worker=link.worker, frames_taken_back=taken)

    def _send_frames(self) -> None:
        while True:
            with self._lock:
                link = self._freest()
                frame = None
                if link is not None and link.worker is not None:
                    frame = self._ledger.send(link.worker, time.monotonic())
            if link is None or frame is None:
                return
            self._send_frame(link, frame)

    def _freest(self) -> WorkerLink | None:
        """The worker with the most unused credits; of a line that is pinned, the one it stays with."""
        free = [(self._ledger.room(link.worker, link.credits), link) for link in self._candidates() if link.worker]
        room, link = max(free, key=lambda pair: pair[0], default=(0, None))
        return link if room > 0 else None

    def _candidates(self) -> list[WorkerLink]:
        live = [link for link in self._links if link.worker is not None]
        if not any(link.pinned for link in live):
            return live
        if self._pinned not in live:
            # By its name, so that lines spread over the workers.
            self._pinned = max(live, key=lambda link: zlib.crc32(f"{self._line} {link.endpoint}".encode()))
        return [self._pinned]

    def _send_frame(self, link: WorkerLink, frame: Frame) -> None:
        if link.mismatch:
            with self._lock:
                self._ledger.abandon(frame.seq, "region differs from the model's")
            return
        pixels, shape = None, (1, 1, 3)
        if frame.picture is not None and frame.condition is Condition.OK and link.preprocessing is not None:
            try:
                pixels = prepare(frame.picture, link.preprocessing)
            except ImageError as error:
                log.error("frame cannot be judged", verdict=frame.id, error=str(error))  # noqa: TRY400 - one line
                with self._lock:
                    self._ledger.abandon(frame.seq, "region outside picture")
                return
            shape = pixels.shape
        header = wire.FrameHeader(
            line=frame.line,
            run=frame.run,
            seq=frame.seq,
            wall_ns=frame.wall_ns,
            mono_ns=frame.mono_ns,
            shape=(shape[0], shape[1], 3),
            encoding="none" if pixels is None else "raw",
            preparation=None if pixels is None else link.preparation,
            condition=frame.condition,
            part=frame.part,
            deadline_ms=self._ledger.time_left_ms(frame, time.monotonic()),
        )
        if link.send(wire.pack(header, pixels)):
            log.debug("sent", verdict=frame.id, worker=link.worker)
            return
        # Nobody is at the other end. What it held goes to another worker now, not when its silence has lasted.
        self._lose(link)

    def _tell_gaps(self, now: float) -> None:
        link = next((link for link in self._links if link.worker is not None), None)
        if link is None:
            return
        with self._lock:
            gaps = self._ledger.gaps(now)
        for gap in gaps:
            self._tell(link, self._run, gap)
        if self._old and now >= self._old_due:
            self._old_due = now + LEFTOVER_GRACE_S
            for old in list(self._old):
                if old.next_seq == 0:
                    old.forget()
                    self._old.remove(old)
                else:
                    self._tell(link, old.run, GivenUp("unknown", "capture lost", [(0, old.next_seq - 1)]))

    def _tell(self, link: WorkerLink, run: str, gap: GivenUp) -> None:
        # A skip is the policy's choice; what is given up otherwise was not inspected.
        said = log.debug if gap.outcome == "skipped" else log.info
        numbers = [seq for first, last in gap.ranges for seq in range(first, min(last + 1, first + _NAMED))]
        said(
            "given up",
            line=self._line,
            run=run,
            outcome=gap.outcome,
            reason=gap.reason,
            frames=sum(last - first + 1 for first, last in gap.ranges),
            verdicts=[f"{self._line}/{run}/{seq}" for seq in numbers[:_NAMED]],
        )
        message = wire.Gap(
            line=self._line,
            run=run,
            ranges=list(gap.ranges),
            outcome=gap.outcome,
            reason=gap.reason,
            wall_ns=time.time_ns(),
        )
        link.send(wire.pack(message))

    def _beat(self, now: float, *, ended: bool = False) -> None:
        self._beat_due = now + BEAT_S
        with self._lock:
            own = {
                "source_losses": self._source_losses,
                "workers": sum(link.worker is not None for link in self._links),
                "dropped_messages": sum(link.dropped for link in self._links),
            }
            figures = self._ledger.figures().model_copy(update=own)
            next_seq, oldest = self._next_seq, self._ledger.oldest
        beat = wire.Beat(
            line=self._line,
            run=self._run,
            next_seq=next_seq,
            settled=next_seq if oldest is None else oldest,
            wall_ns=time.time_ns(),
            condition=Condition.ENDED if ended and self._source_ended else self._condition,
            ended=ended,
            figures=figures,
        )
        for link in self._links:
            link.send(wire.pack(beat))
