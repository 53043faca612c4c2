"""What the page and the API show: a picture of this moment, made once however many people look.

The service writes it from its thread, requests read it from theirs.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from alerts.config import AlertRules
from storage.errors import StorageError
from storage.history import History
from storage.records import Alert, AlertKind, LineState, Status, Verdict

TREND = 120
"""Verdicts of a line that its chart shows."""
LISTED = 50
"""Alerts shown."""
_FRESH_S = 0.5
_STALLED_S = 15.0


@dataclass(frozen=True, slots=True)
class Point:
    """One verdict in a chart; `score` and `threshold` are None for `unknown`."""

    status: Status
    score: float | None
    threshold: float | None


@dataclass(frozen=True, slots=True)
class LineView:
    """One line at this moment; `open` are its open alerts."""

    state: LineState
    trend: tuple[Point, ...] = ()
    open: Mapping[AlertKind, Alert] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class View:
    """Everything at this moment.

    Attributes:
        lines: by name.
        alerts: open ones and the latest of the others, newest first.
        trouble: what keeps the picture from being current, one line each.
    """

    lines: tuple[LineView, ...] = ()
    alerts: tuple[Alert, ...] = ()
    trouble: tuple[str, ...] = ()


class Board:
    """Keeps the moment."""

    def __init__(
        self, history: History, rules: Mapping[str, AlertRules], beside: Callable[[], list[str]] = list
    ) -> None:
        self._history = history
        self._beside = beside  # says what is wrong with the processes beside this one
        self._lock = threading.Lock()  # never held during I/O: the service must not wait for people looking
        self._looking = threading.Lock()
        self._states: dict[str, LineState] = {line: LineState(line=line) for line in rules}
        self._trends: dict[str, deque[Point]] = {}
        self._trouble: str | None = None
        self._hole: str | None = None
        self._turned = time.monotonic()
        self._view = View()
        self._seen = -_FRESH_S

    def add(self, verdicts: Iterable[Verdict]) -> None:
        """Add verdicts, oldest first."""
        with self._lock:
            for verdict in verdicts:
                trend = self._trends.setdefault(verdict.line, deque(maxlen=TREND))
                trend.append(Point(verdict.status, verdict.score, verdict.threshold))

    def turn(self, states: Iterable[LineState]) -> None:
        """Note that the service is well, and what is known of the lines."""
        with self._lock:
            self._states.update({state.line: state for state in states})
            self._trouble, self._turned = None, time.monotonic()

    def trouble(self, said: str) -> None:
        """Note that the service waits for something."""
        with self._lock:
            self._trouble = said

    def hole(self, said: str) -> None:
        """Note that verdicts were missed. Shown until the service is restarted: somebody has to look."""
        with self._lock:
            self._hole = said

    def stale(self) -> None:
        """Forget the cached view: something was just changed by hand."""
        self._seen = -_FRESH_S

    def view(self) -> View:
        """See the moment, at most half a second old. Does I/O: not for an event loop."""
        with self._looking:
            now = time.monotonic()
            if now - self._seen >= _FRESH_S:
                self._seen = now  # before looking: what is `stale` meanwhile is looked at again
                self._view = self._look()
            return self._view

    def ailments(self) -> list[str]:
        """What is wrong with the service itself and the processes beside it; empty when they are well."""
        said = [text for text in (self._trouble, self._hole) if text]
        stalled = time.monotonic() - self._turned
        if stalled > _STALLED_S and not self._trouble:
            said.append(f"verdicts have not been followed for {stalled:.0f} s")
        return said + self._beside()

    def _look(self) -> View:
        trouble = self.ailments()
        alerts: Sequence[Alert] = self._view.alerts
        try:
            still_open = self._history.alerts(open=True, limit=1000)
            latest = self._history.alerts(limit=LISTED)
            alerts = sorted({a.id: a for a in [*still_open, *latest]}.values(), key=lambda a: a.raised_ns, reverse=True)
        except StorageError as error:
            trouble.append(str(error))
        opened: dict[str, dict[AlertKind, Alert]] = {}
        for alert in alerts:
            if alert.cleared_ns is None:
                opened.setdefault(alert.line, {})[alert.kind] = alert
        with self._lock:
            lines = tuple(
                LineView(state, tuple(self._trends.get(line, ())), opened.get(line, {}))
                for line, state in sorted(self._states.items())
            )
        return View(lines, tuple(alerts), tuple(trouble))
