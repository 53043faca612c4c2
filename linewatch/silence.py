"""When a role that says nothing counts as hung: a pure core, told the time.

Only silence that was watched counts. A supervisor that was itself paused, or a machine that slept, would otherwise
blame its children for time that nobody had.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from linewatch.progress import Loop

START_S = 120.0
"""How long a role may take from its start to the first turn of any loop."""
SILENT_S = 20.0
"""How long a loop may take for one turn."""
_LONGEST_LOOK_S = 2.0
"""Between two looks at most this much counts."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a role may be silent, in seconds."""

    silent_s: float = SILENT_S
    start_s: float = START_S


CAPTURE = Patience()
WORKER = Patience(start_s=300.0)
"""It loads its models first."""
ALERTS = Patience(silent_s=2 * SILENT_S)
"""Longer than the time-out of one SQL statement."""


@dataclass(slots=True)
class Silence:
    """How long one start of a role has been silent. All times are monotonic seconds."""

    start_s: float = START_S
    silent_s: float = SILENT_S
    _looked: float | None = None
    _unborn_s: float = 0.0
    _quiet_s: dict[str, float] = field(default_factory=dict)
    _seen: dict[str, Loop] = field(default_factory=dict)

    def look(self, loops: Mapping[str, Loop], now: float) -> str | None:
        """Compare with the last look; why the role counts as hung, None: it does not."""
        step = 0.0 if self._looked is None else max(0.0, min(now - self._looked, _LONGEST_LOOK_S))
        self._looked = now
        if not loops:
            self._unborn_s += step
            return f"has not begun its work after {self.start_s:g} s" if self._unborn_s >= self.start_s else None
        for name, loop in loops.items():
            still = loop == self._seen.get(name) and not loop.waits
            self._quiet_s[name] = self._quiet_s.get(name, 0.0) + step if still else 0.0
            self._seen[name] = loop
        silent = [name for name, quiet_s in self._quiet_s.items() if quiet_s >= self.silent_s]
        return f"no turn of {', '.join(sorted(silent))} within {self.silent_s:g} s" if silent else None
