"""From verdict to storage, and only then to the acknowledgement.

The recorder's thread writes evidence, then one atomic and idempotent step per verdict, then hands back what may be
acknowledged. While Redis does not answer it holds on to the batch and tries again; nothing is acknowledged meanwhile,
so credits run out, the cameras' buffers fill, and what misses its deadline there ends as `unknown`.
"""

import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog

from inference.bereaved import Bereaved
from inference.judge import Judged
from inference.pictures import Pace, Pictures
from inference.tally import Tally
from ingest.wire import Beat, Gap, Portrait
from storage.captures import Captures
from storage.errors import StoreUnavailable
from storage.evidence import EvidenceStore
from storage.lines import Lines
from storage.records import Status, Verdict
from storage.workers import Workers

UNKNOWN_SAID_S = 1.0
"""At most one log line per line in this time for frames that were not judged; whoever debugs sees all."""
PRUNE_S = 60.0
"""How often the evidence store is brought back within its bounds."""
MOST_OF_A_GAP = 100_000
"""Numbers of one message that are ended before others have their turn: an hour at 28 frames a second."""
_BACK_OFF_S = (0.1, 0.2, 0.5, 1.0, 2.0)
_DEPTH = 64

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Recorded:
    """Frames of one capture that are in storage.

    Attributes:
        peer: the capture to tell.
        line, run, ranges: which frames.
        portrait: ask for the full-resolution picture: there is evidence to go with it, or it is to be shown.
        gap: these were never held here.
    """

    peer: bytes
    line: str
    run: str
    ranges: Sequence[tuple[int, int]]
    portrait: bool = False
    gap: bool = False


Told = Beat | tuple[bytes, Gap] | tuple[Portrait, bytes]
Item = Callable[[], list[Judged]] | Told


class Recorder:
    """The writing end of a worker; one thread, one bounded queue.

    Args:
        lines, workers, evidence: where to write.
        name: this worker's name in verdicts and heartbeats.
        acknowledge: called in the recorder's thread with what has been stored.
        info: gives the worker's heartbeat.
        captures: where the figures of captures go; None: nowhere.
        bereaved: closes what no capture will; None: nobody does.
        moves: called at each turn of the thread.
        waits: called before what may take any time.

    Attributes:
        tally: what is counted for the heartbeat.
    """

    def __init__(
        self,
        *,
        lines: Lines,
        workers: Workers,
        evidence: EvidenceStore,
        name: str,
        acknowledge: Callable[[Recorded], None],
        info: Callable[[], dict[str, object]],
        captures: Captures | None = None,
        bereaved: Bereaved | None = None,
        moves: Callable[[], None] = lambda: None,
        waits: Callable[[], None] = lambda: None,
    ) -> None:
        self._lines, self._workers, self._name = lines, workers, name
        self._acknowledge, self._info = acknowledge, info
        self._captures, self._bereaved = captures, bereaved
        self._moves, self._waits = moves, waits
        self.tally = Tally()
        self._queue: queue.Queue[Item | None] = queue.Queue(_DEPTH)
        self._pictures = Pictures(evidence, tally=self.tally, worker=name)
        self._unknown_said = Pace(UNKNOWN_SAID_S)
        self._abort = threading.Event()
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether it still writes; what it cannot write is no reason to stop, so False means a fault of the program."""
        return self._thread.is_alive()

    @property
    def depth(self) -> tuple[int, int]:
        """How many things wait to be written, and how many may at most."""
        return self._queue.qsize(), _DEPTH

    def put(self, judged: Callable[[], list[Judged]]) -> None:
        """Hand over what makes a judged batch (called in the recorder's thread); blocks while storage is slower."""
        self._queue.put(judged)

    def tell(self, told: Told) -> bool:
        """Hand over a beat, gap or portrait without waiting; False when there is no room (it will be repeated)."""
        jpeg = told[1] if isinstance(told, tuple) and isinstance(told[1], bytes) else None
        if jpeg is not None and not self._pictures.admit(jpeg):
            self.tally.refused()
            return False
        try:
            self._queue.put_nowait(told)
        except queue.Full:
            self.tally.refused()
            if jpeg is not None:
                self._pictures.release(jpeg)
            return False
        return True

    def stop(self, *, patience_s: float) -> None:
        """Write what is queued, then end; after `patience_s` give up (capture still holds what was not stored)."""
        try:
            self._queue.put(None, timeout=patience_s)
            self._thread.join(patience_s)
        except queue.Full:
            pass  # storage does not answer: nothing unacknowledged is lost
        self._abort.set()
        self._thread.join(5.0)

    def _run(self) -> None:
        beat_due, prune_due = 0.0, time.monotonic() + PRUNE_S
        while not self._abort.is_set():
            now = time.monotonic()
            if now >= prune_due:
                prune_due = now + PRUNE_S
                self._waits()  # a walk over all evidence: on a slow disk it takes its time
                self._pictures.prune()
            self._moves()
            if self._bereaved is not None:
                self._bereaved.look(now)
            if now >= beat_due:
                beat_due = now + 1.0
                self._insist("heartbeat", lambda: self._workers.record(self._name, self._info()), tries=1)
            try:
                item = self._queue.get(timeout=0.5)
            except queue.Empty:
                continue
            if item is None:
                return
            self._write(item)

    def _write(self, item: Item) -> None:
        match item:
            case Beat():
                self._insist(
                    "beat", lambda: self._beat(item), tries=None if item.ended else 1
                )  # that one is not repeated
            case (bytes() as peer, Gap() as gap):
                ended: list[int] = []
                # A gap that is not closed yet is not acknowledged: it is told again, and other lines have their turn.
                if self._insist("gap", lambda: ended.append(self._close_gap(gap))) and ended[-1] < MOST_OF_A_GAP:
                    self._acknowledge(Recorded(peer, gap.line, gap.run, gap.ranges, gap=True))
            case (Portrait() as portrait, bytes() as jpeg):
                self._pictures.release(jpeg)
                self._pictures.hang(portrait, jpeg)
            case _:
                self._record(item())

    def _record(self, batch: Sequence[Judged]) -> None:
        batch = [self._pictures.illustrate(judged) for judged in batch]
        began, stored = time.monotonic(), list[tuple[Verdict, bool]]()
        if self._insist("verdicts", lambda: stored.extend(self._store(batch))):
            self.tally.store_s.observe(time.monotonic() - began)
            now_ns = time.time_ns()
            for judged, (verdict, first) in zip(batch, stored, strict=True):
                self.tally.stored(judged.verdict.line, (now_ns - judged.verdict.captured_ns) / 1e9)
                self._say(verdict, first=first)
                header = judged.job.header
                wanted = self._pictures.wants_portrait(judged.verdict)
                span = [(header.seq, header.seq)]
                self._acknowledge(Recorded(judged.job.peer, header.line, header.run, span, portrait=wanted))

    def _say(self, verdict: Verdict, *, first: bool) -> None:
        """Log a stored verdict: a reject always, an unknown now and then, a pass only for whoever debugs."""
        if not first:
            log.debug("has its verdict already", verdict=verdict.id, status=verdict.status.value, worker=self._name)
            return
        unknown = verdict.status is Status.UNKNOWN and self._unknown_said.due(verdict.line)
        said = log.info if unknown or verdict.status is Status.REJECT else log.debug
        shown = verdict.model_dump(
            include={"part", "score", "threshold", "model", "reason", "evidence"}, exclude_none=True
        )
        said("stored", verdict=verdict.id, status=verdict.status.value, worker=self._name, **shown)

    def _store(self, batch: Sequence[Judged]) -> list[tuple[Verdict, bool]]:
        """The verdicts as they went to storage, each with whether it was the frame's first."""
        now = time.monotonic()
        verdicts = [_unless_late(judged, now) for judged in batch]
        return list(zip(verdicts, self._lines.record(verdicts), strict=True))

    def _insist(self, what: str, step: Callable[[], object], *, tries: int | None = None) -> bool:
        """Do one storage step, again and again while the store does not answer; False when told to end first."""
        failures = 0
        while not self._abort.is_set():
            self._moves()
            try:
                step()
            except StoreUnavailable as error:
                if failures in (0, 30):
                    log.warning("store does not answer", worker=self._name, waiting=what, error=str(error))
                failures += 1
                self.tally.store_retried()
                if tries is not None and failures >= tries:
                    return False
                self._abort.wait(_BACK_OFF_S[min(failures, len(_BACK_OFF_S)) - 1])
                continue
            if failures:
                log.info("store answers again", worker=self._name, attempts=failures)
            return True
        return False

    def _beat(self, beat: Beat) -> None:
        if self._captures is not None and beat.figures is not None:
            figures = {"run": beat.run, "wall_ns": beat.wall_ns, **beat.figures.model_dump()}
            self._captures.record(beat.line, figures)
        self._lines.beat(
            line=beat.line,
            run=beat.run,
            next_seq=beat.next_seq,
            camera=beat.condition.value,
            wall_ns=beat.wall_ns,
            ended=beat.ended,
            settled=beat.settled,
        )

    def _close_gap(self, gap: Gap) -> int:
        return self._lines.close_gap(
            line=gap.line,
            run=gap.run,
            ranges=gap.ranges,
            status=gap.outcome,
            reason=gap.reason,
            wall_ns=gap.wall_ns,
            worker=self._name,
            most=MOST_OF_A_GAP,
        )


def _unless_late(judged: Judged, now: float) -> Verdict:
    """A verdict that would be stored after its deadline came too late to act on."""
    deadline, verdict = judged.job.deadline, judged.verdict
    if deadline is None or now <= deadline or verdict.status is Status.UNKNOWN:
        return verdict
    return verdict.model_copy(update={"status": Status.UNKNOWN, "reason": "late"})
