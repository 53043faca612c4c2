"""The accounts of one run at the camera's side: where every numbered frame is, until a verdict is stored.

::

                    ┌──────── worker lost, retry ────────┐
                    v                                    │
    admit ──> waiting ── send ──> in flight (worker) ────┴── acknowledged ──> settled
                 │                    │
                 └── skipped, late, overflow, no answer ──> given up ── gap acknowledged ──> settled

Pure: no clock, no socket. Every method that needs the time is given `now`, in monotonic seconds.
"""

from collections import Counter, OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from ingest.figures import Figures
from ingest.frame import Frame
from ingest.ranges import Ranges
from ingest.turnaround import Turnaround

PATIENCE_S = 5.0
"""How long after its deadline a frame in flight may stay without an answer before it is given up."""
GAP_RESEND_S = 2.0
"""How long a gap waits for its acknowledgement before it is told again."""
_MAX_STRETCHES = 512  # per gap message; the wire allows 1024

Outcome = Literal["unknown", "skipped"]


@dataclass(frozen=True, slots=True)
class GivenUp:
    """Stretches of numbers that end the same way for the same reason."""

    outcome: Outcome
    reason: str
    ranges: Sequence[tuple[int, int]]


@dataclass(slots=True)
class _Flight:
    frame: Frame
    worker: str
    sent: float


class Ledger:
    """Where each frame of one run is.

    Args:
        policy: `every` keeps frames in order up to `capacity` bytes; `latest` keeps only the freshest waiting frame.
        capacity: bound on the bytes of pictures held, waiting and in flight.
        deadline_s: frames older than this are given up; None: never.
    """

    def __init__(self, *, policy: Literal["every", "latest"], capacity: int, deadline_s: float | None) -> None:
        self._policy = policy
        self._capacity = capacity
        self._deadline_s = deadline_s
        self._turnaround = Turnaround(deadline_s)
        self._waiting: OrderedDict[int, Frame] = OrderedDict()
        self._flying: OrderedDict[int, _Flight] = OrderedDict()
        self._bytes = 0
        self._largest = 0
        self._given_up: dict[tuple[Outcome, str], Ranges] = {}
        self._told: dict[tuple[Outcome, str], float] = {}
        self._lost: Counter[str] = Counter()
        self._resent = 0

    @property
    def full(self) -> bool:
        """Whether the next frame might have to push another one out."""
        return self._bytes + self._largest > self._capacity and bool(self._waiting or self._flying)

    @property
    def open(self) -> int:
        """Numbers that have not been settled yet."""
        return len(self._waiting) + len(self._flying) + sum(map(len, self._given_up.values()))

    @property
    def oldest(self) -> int | None:
        """The lowest number that has not been settled yet; None: all have."""
        given_up = (first for ranges in self._given_up.values() for first, _ in ranges)
        return min((*self._waiting, *self._flying, *given_up), default=None)

    @property
    def waiting(self) -> int:
        """Frames that could be sent now."""
        return len(self._waiting)

    def in_flight(self, worker: str) -> int:
        """Frames that `worker` holds."""
        return sum(flight.worker == worker for flight in self._flying.values())

    def room(self, worker: str, granted: int) -> int:
        """How many frames `worker`, which has granted so many, may be sent now."""
        return min(granted - self.in_flight(worker), self._turnaround.window - len(self._flying))

    def figures(self) -> Figures:
        """What there is, and what was given up and sent again so far."""
        return Figures(
            waiting=len(self._waiting),
            in_flight=len(self._flying),
            buffered_bytes=self._bytes,
            buffer_bytes=self._capacity,
            untold=sum(map(len, self._given_up.values())),
            resent=self._resent,
            given_up=dict(self._lost),
        )

    def admit(self, frame: Frame) -> None:
        """Take a new frame; what has no room for it is given up, oldest first."""
        if self._policy == "latest":
            for seq in list(self._waiting):
                self._give_up(seq, "skipped", "superseded")
        self._waiting[frame.seq] = frame
        self._bytes += _size(frame)
        self._largest = max(self._largest, _size(frame))
        while self._bytes > self._capacity and len(self._waiting) > 1:
            self._give_up(next(iter(self._waiting)), "unknown", "overflow")

    def send(self, worker: str, now: float) -> Frame | None:
        """Move the next frame into `worker`'s hands: the oldest for `every`, the only one for `latest`."""
        if not self._waiting:
            return None
        seq, frame = self._waiting.popitem(last=False)
        self._flying[seq] = _Flight(frame, worker, now)
        return frame

    def unsend(self, seqs: Iterable[int]) -> None:
        """Take frames back: they were not judged and can be sent again."""
        back = [self._flying.pop(seq).frame for seq in seqs if seq in self._flying]
        for frame in back:
            self._waiting[frame.seq] = frame
        self._resent += len(back)
        if back:
            self._waiting = OrderedDict(sorted(self._waiting.items()))
        if self._policy == "latest":
            for seq in list(self._waiting)[:-1]:
                self._give_up(seq, "skipped", "superseded")

    def retry(self, ranges: Iterable[tuple[int, int]]) -> None:
        """Take back those of these numbers that are in flight, however wide the ranges are."""
        self.unsend(seq for first, last in ranges for seq in self._held(first, last))

    def worker_lost(self, worker: str) -> int:
        """Take back everything `worker` held; the number of frames."""
        seqs = [seq for seq, flight in self._flying.items() if flight.worker == worker]
        self.unsend(seqs)
        self._told.clear()  # gaps may have gone down with it too
        return len(seqs)

    def abandon(self, seq: int, reason: str) -> None:
        """Give up one frame that cannot be judged."""
        self._give_up(seq, "unknown", reason)

    def abandon_all(self, reason: str) -> None:
        """Give up everything that is not settled."""
        for seq in [*self._waiting, *self._flying]:
            self._give_up(seq, "unknown", reason)

    def expire(self, now: float) -> None:
        """Give up what has missed its deadline, or will have by the time it could be judged."""
        if self._deadline_s is None:
            return
        in_time_s = self._deadline_s - self._turnaround.usual_s
        for seq, frame in list(self._waiting.items()):
            if now - frame.mono_ns / 1e9 > in_time_s:
                self._give_up(seq, "unknown", "late")
        for seq, flight in list(self._flying.items()):
            if now - flight.frame.mono_ns / 1e9 > self._deadline_s + PATIENCE_S:
                self._give_up(seq, "unknown", "no answer")

    def settle(self, ranges: Iterable[tuple[int, int]], now: float) -> list[Frame]:
        """Forget what has its outcome in storage; the frames that were still held."""
        frames = []
        for first, last in ranges:
            for seq in self._held(first, last):
                flight = self._flying.get(seq)
                if flight is not None:
                    self._turnaround.returned(flight.sent, now, under_way=len(self._flying))
                frame = self._drop(seq)
                if frame is not None:
                    frames.append(frame)
            for key in list(self._given_up):
                self._given_up[key].remove(first, last)
                if not self._given_up[key]:
                    del self._given_up[key]
                    self._told.pop(key, None)
        return frames

    def gaps(self, now: float) -> list[GivenUp]:
        """What was given up and should be told now: new, or told a while ago without an answer."""
        due = []
        for key, ranges in self._given_up.items():
            if now - self._told.get(key, float("-inf")) >= GAP_RESEND_S:
                self._told[key] = now
                due.append(GivenUp(*key, list(ranges)[:_MAX_STRETCHES]))
        return due

    def time_left_ms(self, frame: Frame, now: float) -> float | None:
        """Milliseconds until the frame's deadline, negative once it has passed; None without one."""
        if self._deadline_s is None:
            return None
        return (frame.mono_ns / 1e9 + self._deadline_s - now) * 1e3

    def _held(self, first: int, last: int) -> list[int]:
        if last - first < 64:
            return [seq for seq in range(first, last + 1) if seq in self._flying or seq in self._waiting]
        return [seq for seq in (*self._flying, *self._waiting) if first <= seq <= last]

    def _drop(self, seq: int) -> Frame | None:
        flight = self._flying.pop(seq, None)
        frame = flight.frame if flight is not None else self._waiting.pop(seq, None)
        if frame is not None:
            self._bytes -= _size(frame)
        return frame

    def _give_up(self, seq: int, outcome: Outcome, reason: str) -> None:
        if self._drop(seq) is not None:
            self._lost[reason] += 1
            self._given_up.setdefault((outcome, reason), Ranges()).add(seq, seq)


def _size(frame: Frame) -> int:
    return 0 if frame.picture is None else frame.picture.nbytes
