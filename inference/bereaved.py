"""Numbers that nobody will end any more: their capture, its host or its journal is gone for good.

A capture ends every number it gave, and its next start those of a run before. Where neither comes, because the host
burnt down or is cut off, a worker does it in the end: a frame without a verdict is `unknown` by a deadline, whoever is
missing. Should the capture come back, its frames have their verdict already.
"""

import time
from collections.abc import Iterable
from dataclasses import replace

import structlog

from storage.errors import StoreUnavailable
from storage.lines import Lines, Unsettled

BEREAVED_S = 60.0
"""How long a run that owes verdicts may show no sign of life."""
MOST_AT_ONCE = 100_000
"""Numbers of one run that are ended at one look."""
_LOOK_S = 5.0

log = structlog.get_logger()


class Bereaved:
    """Watches the runs of some lines; called by one thread, again and again.

    Args:
        lines: their accounts.
        names: which lines.
        worker: who closes the gap.
    """

    def __init__(self, lines: Lines, names: Iterable[str], *, worker: str) -> None:
        self._lines, self._names, self._worker = lines, tuple(names), worker
        self._seen: dict[tuple[str, str], tuple[Unsettled, float]] = {}
        self._closing: set[tuple[str, str]] = set()
        self._looked = float("-inf")

    def look(self, now: float) -> None:
        """Close what has stood still for `BEREAVED_S` by this worker's own monotonic clock.

        Args:
            now: monotonic seconds. Standing still is what counts, so no two clocks are compared.
        """
        if now - self._looked < _LOOK_S:
            return
        if now - self._looked > 3 * _LOOK_S:
            self._seen = {}  # we slept ourselves: signs of life may wait in our own queue
        self._looked = now
        try:
            found = [run for name in self._names for run in self._lines.unsettled(name)]
            before, self._seen = self._seen, {}
            closing, self._closing = self._closing, set()
            for run in found:
                key = (run.line, run.run)
                known, since = before.get(key, (run, now))
                if key in closing:
                    known = replace(known, floor=run.floor)  # that it moves is our own doing
                self._seen[key] = (run, since if known == run else now)
                if known == run and now - since >= BEREAVED_S:
                    self._close(run)
                    self._closing.add(key)
        except StoreUnavailable:
            self._seen = {}  # nobody could show a sign of life meanwhile

    def _close(self, run: Unsettled) -> None:
        ended = self._lines.close_gap(
            line=run.line,
            run=run.run,
            ranges=[(run.floor, run.next_seq - 1)],
            status="unknown",
            reason="capture lost",
            wall_ns=time.time_ns(),
            worker=self._worker,
            most=MOST_AT_ONCE,  # the rest at the next look: meanwhile others have their turn
        )
        log.warning("frames nobody will end are unknown now", line=run.line, run=run.run, frames=ended)
