"""Follows the verdict stream: applies the rules and commits what follows from it together with the stream position.

What is held in memory is only ever what was committed; after any failure it is read back (`resume`).
"""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import structlog

from alerts.config import AlertRules
from alerts.pulse import Pulse
from alerts.rules import RuleState, Signs, step, tick
from storage.history import START, Consequences, Counts, History
from storage.records import Alert, Change, Status, Transition, Verdict
from storage.verdicts import VerdictStream

log = structlog.get_logger()

BATCH = 1000
"""Most verdicts of one commit."""
KEEP = 10_000
"""Verdicts left in the stream for people who look at it."""
_TRIM_EVERY_S = 5.0
_MINUTE_NS = 60_000_000_000
_REMOVED = AlertRules(silent_after=0)
_LAST = 2**64 - 1  # largest second part of a stream id


class Follower:
    """One reader of the stream; the history refuses a second one.

    Args:
        stream: the verdicts.
        history: where their consequences go.
        rules: line -> when its verdicts become alerts; other lines get the default.
        audience: change -> names of the sinks to tell.
        on_verdicts: told of each batch once it is committed.
    """

    def __init__(
        self,
        stream: VerdictStream,
        history: History,
        *,
        rules: Mapping[str, AlertRules],
        audience: Mapping[Change, Sequence[str]],
        on_verdicts: Callable[[Sequence[Verdict]], None],
    ) -> None:
        self._stream = stream
        self._history = history
        self._rules = dict(rules)
        self._audience = audience
        self._on_verdicts = on_verdicts
        self._trim_at = 0.0
        self._hole_told = START
        self.position = START
        self.hole: str | None = None
        """What was missed, in one line; None when nothing was."""
        self._states: dict[str, RuleState] = {}

    @property
    def lines(self) -> set[str]:
        """Lines that are configured, or have sent a verdict since this process started."""
        return set(self._rules)

    def resume(self) -> None:
        """Start from what the history holds.

        Raises:
            StoreUnavailable: try again later.
        """
        self.position = self._history.position()
        self._states = {
            line: RuleState.model_validate_json(state) for line, state in self._history.rule_states().items()
        }

    def follow(self, *, block_ms: int) -> tuple[bool, bool]:
        """Apply the next batch of verdicts.

        Args:
            block_ms: wait this long for the first one.

        Returns:
            Whether there may be more at once, and whether there is something to tell.

        Raises:
            StorageError: call `resume` before going on.
        """
        self._look_for_hole()
        entries = self._stream.read(self.position, count=BATCH, block_ms=block_ms)
        if not entries:
            return False, False
        states, transitions = dict(self._states), list[Transition]()
        counts: dict[tuple[str, int], Counter[Status]] = {}
        touched = dict[str, None]()
        for _, verdict in entries:
            line = verdict.line
            state, changes = step(states.get(line) or RuleState(line=line), verdict, self._rules_of(line))
            states[line] = state
            transitions += changes
            touched[line] = None
            counts.setdefault((line, verdict.captured_ns // _MINUTE_NS), Counter())[verdict.status] += 1
        minutes = {
            key: Counts(count[Status.PASS], count[Status.REJECT], count[Status.UNKNOWN])
            for key, count in counts.items()
        }
        began = self.position
        self._commit(entries[-1][0], states, transitions, touched, minutes)
        self._on_verdicts([verdict for _, verdict in entries])
        self._trim(began)
        return len(entries) == BATCH, bool(transitions)

    def tick(self, pulse: Pulse, *, now: float, now_ns: int) -> bool:
        """Apply the passing of time to every line; only right after `follow` said that there is nothing more.

        Args:
            pulse: what was known of the lines before that.
            now: monotonic seconds.
            now_ns: wall clock, nanoseconds since the epoch.

        Returns:
            Whether there is something to tell.

        Raises:
            StorageError: call `resume` before going on.
        """
        states, transitions, touched = dict(self._states), list[Transition](), dict[str, None]()
        removed = {line for line, state in states.items() if state.open} - self._rules.keys()
        for line in sorted(self.lines | removed):
            state, signs = states.get(line) or RuleState(line=line), pulse.signs(line, now)
            if line in removed:  # from the configuration: nobody expects anything of it
                signs = Signs(calm_s=signs.calm_s)
            states[line], changes = tick(state, signs, self._rules.get(line, _REMOVED), now_ns=now_ns)
            if changes:
                touched[line] = None
                transitions += changes
        if transitions:
            self._commit(self.position, states, transitions, touched, {})
        else:
            self._states = states
        return bool(transitions)

    def _look_for_hole(self) -> None:
        """Check that the stream still holds the entry this history ends at: what follows it is then there."""
        if self.position in (START, self._hole_told):
            return
        found = self._stream.read(_before(self.position), count=1)
        if found and found[0][0] == self.position:
            return
        newest = self._stream.latest(1)
        self._hole_told = self.position
        if found:
            self.hole = (
                f"verdicts between {self.position} and {found[0][0]} were dropped from the stream before they became "
                "alerts, their rejects were not told: the alert service was away for too long"
            )
        elif newest:  # it would never be read: its entries all seem to be old
            self.hole = (
                f"the verdict stream was replaced by an older one: this history ends at {self.position}, the stream at "
                f"{newest[0][0]}; what it holds is skipped, what comes is followed"
            )
            self._commit(newest[0][0], self._states, [], {}, {})
        else:
            self.hole = (
                f"the verdict stream is empty although this history ends at {self.position}: Redis has lost its data, "
                "and with it the verdicts that had not become alerts yet"
            )
        log.error(self.hole)

    def _rules_of(self, line: str) -> AlertRules:
        if line not in self._rules:
            log.warning("a line that is not configured sends verdicts: its alerts follow the default rules", line=line)
            self._rules[line] = AlertRules()
        return self._rules[line]

    def _commit(
        self,
        position: str,
        states: dict[str, RuleState],
        transitions: Sequence[Transition],
        touched: Mapping[str, None],
        minutes: Mapping[tuple[str, int], Counts],
    ) -> None:
        consequences = Consequences(
            position=position,
            transitions=transitions,
            grown=[alert for line in touched for alert in _grown(self._states.get(line), states[line])],
            states={line: states[line].model_dump_json() for line in touched},
            minutes=minutes,
            audience=self._audience,
        )
        self._history.commit(consequences, after=self.position)
        self.position, self._states = position, states

    def _trim(self, began: str) -> None:
        """Trim up to the position before this batch: the entry at `position` stays, for `_look_for_hole` to find."""
        now = time.monotonic()
        if now >= self._trim_at and began != START:
            self._stream.trim(cursor=began, keep=KEEP)
            self._trim_at = now + _TRIM_EVERY_S


def _grown(before: RuleState | None, after: RuleState) -> list[Alert]:
    """Open alerts whose count changed."""
    old = before.open if before else {}
    return [alert for kind, alert in after.open.items() if kind not in old or old[kind] != alert]


def entry_number(position: str) -> tuple[int, int]:
    """Read a stream id, `milliseconds-number`: ids compare as these pairs."""
    ms, _, number = position.partition("-")
    return int(ms), int(number or 0)


def _before(position: str) -> str:
    """Id of the stream entry that would stand right before another."""
    ms, number = entry_number(position)
    return f"{ms}-{number - 1}" if number else f"{ms - 1}-{_LAST}"
