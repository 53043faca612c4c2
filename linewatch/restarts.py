"""When a process that ended is started again: a pure core, told the time.

A process that ran well for a while and then died is started again at once; one that keeps dying is started ever more
rarely, so that a wrong model path does not become a busy machine, and is shown as a crash loop.
"""

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """What a role is doing, as an operator sees it."""

    RUNNING = "running"
    HUNG = "hung"  # exists but makes no progress: killed, and not gone yet
    WAITING = "waiting"  # ended, will be started again
    CRASH_LOOP = "crash-loop"  # has ended soon after its start again and again; still being tried
    ENDED = "ended"  # had a natural end and reached it
    STOPPED = "stopped"  # asked to


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long to wait before starting again."""

    first_s: float = 0.2
    most_s: float = 10.0
    healthy_s: float = 30.0
    """Having run this long, a process has proved itself: its earlier failures are forgotten."""
    loop_after: int = 4
    """Failures in a row that make a crash loop."""

    def delay(self, failures: int) -> float:
        """Seconds to wait after so many failures in a row (at least 1): doubling, bounded."""
        return float(min(self.first_s * 2.0 ** min(failures - 1, 32), self.most_s))


@dataclass(slots=True)
class Restarts:
    """The life of one role: started, ended, due again.

    All times are monotonic seconds.
    """

    backoff: Backoff
    ends: bool = False
    """Whether exit code 0 is the role's natural end; a role without one is started again after any exit."""
    restarts: int = 0
    failures: int = 0
    """Ends in a row, each soon after a start."""
    last_exit: int | None = None
    due: float | None = 0.0
    """When to start next; None while running, or when there is no next time."""
    started_at: float | None = None
    ended: bool = False
    stopped: bool = False
    hangs: int = 0
    """Times it was killed because it made no progress."""
    last_hang: str | None = None
    """Why, the last time."""
    hung: bool = False

    def started(self, now: float) -> None:
        """Note that the process was started."""
        if self.last_exit is not None:
            self.restarts += 1
        self.started_at, self.due, self.hung = now, None, False

    def hangs_now(self, why: str) -> None:
        """Note that the process makes no progress and is being killed."""
        self.hung, self.hangs, self.last_hang = True, self.hangs + 1, why

    def exited(self, now: float, code: int) -> None:
        """Note that the process is gone, and decide when it is due again."""
        ran_s = now - (self.started_at if self.started_at is not None else now)
        self.started_at, self.last_exit, self.hung = None, code, False
        if self.stopped:
            return
        if self.ends and code == 0:
            self.ended = True
            return
        self.failures = 1 if ran_s >= self.backoff.healthy_s else self.failures + 1
        self.due = now + self.backoff.delay(self.failures)

    def stop(self) -> None:
        """Never start again."""
        self.stopped, self.due = True, None

    def state(self, now: float) -> State:
        """Say what an operator should see now."""
        if self.hung:
            return State.HUNG
        if self.ended:
            return State.ENDED
        if self.stopped:
            return State.RUNNING if self.started_at is not None else State.STOPPED
        proved = self.started_at is not None and now - self.started_at >= self.backoff.healthy_s
        if self.failures >= self.backoff.loop_after and not proved:
            return State.CRASH_LOOP
        return State.RUNNING if self.started_at is not None else State.WAITING
