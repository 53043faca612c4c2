"""The alert service's own loop: follow the verdicts, and once a second look at the lines."""

import threading
import time
from collections.abc import Callable

import structlog

from alerts.board import TREND, Board
from alerts.courier import DRAIN_S
from alerts.follower import Follower, entry_number
from alerts.pulse import Pulse
from storage.errors import StorageFull, StoreUnavailable
from storage.lines import Lines
from storage.verdicts import VerdictStream

_TICK_S = 1.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 5.0

log = structlog.get_logger()


class Loop:
    """Turns until told to stop; a store that is away is waited for.

    Args:
        follower: commits what verdicts mean.
        lines, stream: the state of lines and their verdicts, in Redis.
        pulse: knows which lines are silent.
        board: what the page shows.
        ring: tells the couriers that there is something to deliver.
    """

    def __init__(
        self,
        follower: Follower,
        *,
        lines: Lines,
        stream: VerdictStream,
        pulse: Pulse,
        board: Board,
        ring: Callable[[], None],
    ) -> None:
        self._follower = follower
        self._lines = lines
        self._stream = stream
        self._pulse = pulse
        self._board = board
        self._ring = ring
        self._next_tick = 0.0
        self._charted = False

    def run(self, stop: threading.Event, turn: Callable[[], None]) -> None:
        """Follow until `stop`, then what was stored before; `turn` is called at each turn."""
        well, pause = False, _FIRST_PAUSE_S
        waiting = False
        while not stop.is_set():
            turn()
            try:
                if not well:
                    self._begin()
                self._turn()
            except (StoreUnavailable, StorageFull) as error:
                well = False
                self._board.trouble(str(error))
                if not waiting:  # said once
                    log.warning("verdicts wait; they are followed as soon as this is mended", because=str(error))
                    waiting = True
                stop.wait(pause)
                pause = min(2 * pause, _LONGEST_PAUSE_S)
                self._pulse.deaf(time.monotonic())
                continue
            if waiting:
                log.info("verdicts are followed again")
            elif not well:
                log.info("verdicts are followed", position=self._follower.position)
            well, waiting, pause = True, False, _FIRST_PAUSE_S
        turn()
        if well:
            self._drain()
        turn()

    def _begin(self) -> None:
        self._follower.resume()
        if not self._charted:
            position = entry_number(self._follower.position)
            known = [v for name, v in self._stream.latest(4 * TREND) if entry_number(name) <= position]
            self._board.add(reversed(known))
            self._charted = True

    def _turn(self) -> None:
        """Follow a batch; once a second look at the lines, before it: a tick must not run ahead of verdicts."""
        now = time.monotonic()
        ticking = now >= self._next_tick
        if ticking:
            states = self._lines.states()
            self._pulse.listen(states, now)
        more, tell = self._follower.follow(block_ms=0 if ticking else max(1, int((self._next_tick - now) * 1000)))
        if ticking:
            self._next_tick = now + _TICK_S
            if not more:
                tell |= self._follower.tick(self._pulse, now=now, now_ns=time.time_ns())
            known = self._follower.lines
            self._board.turn(state for state in states if state.line in known)
            if self._follower.hole:
                self._board.hole(self._follower.hole)
        if tell:
            self._board.stale()
            self._ring()

    def _drain(self) -> None:
        """Follow what was stored before the end."""
        deadline, more = time.monotonic() + DRAIN_S, True
        try:
            while more and time.monotonic() < deadline:
                more, _ = self._follower.follow(block_ms=0)
        except (StoreUnavailable, StorageFull) as error:
            log.warning("the rest is followed at the next start", because=str(error))
