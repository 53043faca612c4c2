"""Follows the verdict stream: applies the rules and commits what follows from it together with the stream position.

What is held in memory is only ever what was committed; after any failure it is read back (`resume`).
"""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import redis
import structlog

from alerts.config import AlertRules
from alerts.pulse import Pulse
from alerts.rules import challenge, leave, step, tick, withdraw
from alerts.state import RuleState, Signs
from storage.challenges import ChallengeStream
from storage.history import START, Consequences, Counts, History
from storage.records import Alert, AlertKind, Challenge, Change, Held, Status, Transition, Verdict
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


@dataclass(slots=True)
class _Batch:
    """What is being gathered for one commit."""

    states: dict[str, RuleState]
    transitions: list[Transition] = field(default_factory=list)
    touched: set[str] = field(default_factory=set)
    """Lines whose state is to be kept."""
    counts: dict[tuple[str, int], Counter[Status]] = field(default_factory=dict)
    reasons: Counter[tuple[str, int, str]] = field(default_factory=Counter)
    held: list[Held] = field(default_factory=list)
    challenges: dict[str, Challenge] = field(default_factory=dict)

    def count(self, verdict: Verdict) -> None:
        minute = verdict.captured_ns // _MINUTE_NS
        self.counts.setdefault((verdict.line, minute), Counter())[verdict.status] += 1
        if verdict.reason is not None:
            self.reasons[verdict.line, minute, verdict.reason] += 1

    def minutes(self) -> dict[tuple[str, int], Counts]:
        return {
            key: Counts(count[Status.PASS], count[Status.REJECT], count[Status.UNKNOWN])
            for key, count in self.counts.items()
        }


class Follower:
    """One reader of the streams; the history refuses a second one.

    Args:
        client: where the streams of verdicts and of golden samples' results are.
        history: where their consequences go.
        rules: line -> when its verdicts become alerts; other lines get the default.
        audience: change -> names of the sinks to tell.
        on_verdicts: told of each batch once it is committed.
        listed: line -> names of its golden samples, None where they cannot be seen from here.
    """

    def __init__(
        self,
        client: redis.Redis,
        history: History,
        *,
        rules: Mapping[str, AlertRules],
        audience: Mapping[Change, Sequence[str]],
        on_verdicts: Callable[[Sequence[Verdict]], None],
        listed: Callable[[str], frozenset[str] | None] = lambda _: None,
    ) -> None:
        self._stream = VerdictStream(client)
        self._challenges = ChallengeStream(client)
        self._history = history
        self._rules = dict(rules)
        self._audience = audience
        self._on_verdicts = on_verdicts
        self._listed = listed
        self._trim_at = 0.0
        self._hole_told = START
        self.position = START
        self.hole: str | None = None
        """What was missed, in one line; None when nothing was."""
        self._challenged = START
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
        self._challenged = self._history.challenge_position()
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
        batch = _Batch(dict(self._states))
        for _, verdict in entries:
            line = verdict.line
            before = batch.states.get(line) or RuleState(line=line)
            state, changes = step(before, verdict, self._rules_of(line))
            if state.held is not None and state.held is not before.held:
                batch.held.append(state.held)
            batch.states[line] = state
            batch.transitions += changes
            batch.touched.add(line)
            batch.count(verdict)
        began = self.position
        self._commit(entries[-1][0], batch)
        self._on_verdicts([verdict for _, verdict in entries])
        self._trim(began)
        return len(entries) == BATCH, bool(batch.transitions)

    def tick(self, pulse: Pulse, *, now: float, now_ns: int) -> bool:
        """Apply the passing of time to every line, and golden samples' results.

        Only right after `follow` said that there is nothing more.

        Args:
            pulse: what was known of the lines before that.
            now: monotonic seconds.
            now_ns: wall clock, nanoseconds since the epoch.

        Returns:
            Whether there is something to tell.

        Raises:
            StorageError: call `resume` before going on.
        """
        batch = _Batch(dict(self._states))
        states = batch.states
        removed = {line for line, state in states.items() if state.open} - self._rules.keys()
        for line in sorted(self.lines | removed):
            state, signs = states.get(line) or RuleState(line=line), pulse.signs(line, now)
            if line in removed:  # from the configuration: nobody expects anything of it
                signs = Signs(calm_s=signs.calm_s)
            rules = self._rules.get(line, _REMOVED)
            states[line], changes = tick(state, signs, rules, now_ns=now_ns)
            if line in removed:
                states[line], more = leave(states[line], rules, now_ns=now_ns)
                changes = changes + more
            elif AlertKind.GOLDEN_MISSED in states[line].open and (listed := self._listed(line)) is not None:
                before = states[line]
                states[line], more = withdraw(before, listed, rules, now_ns=now_ns)
                changes = changes + more
                if states[line] is not before:
                    batch.touched.add(line)
            if changes:
                batch.touched.add(line)
                batch.transitions += changes
        self._challenge(batch)
        if batch.touched:
            self._commit(self.position, batch)
        else:
            self._states = states
        return bool(batch.transitions)

    def _challenge(self, batch: _Batch) -> None:
        """Apply the golden samples' results there are."""
        entries = self._challenges.read(self._challenged, count=BATCH)
        if not entries and entry_number(self._challenges.newest()) < entry_number(self._challenged):
            self._challenged = START  # Redis has lost its data, the clock was set back: ids began anew
            entries = self._challenges.read(START, count=BATCH)
        for name, shown in entries:
            line = shown.line
            state = batch.states.get(line) or RuleState(line=line)
            batch.states[line], changes = challenge(state, shown, self._rules.get(line, _REMOVED))
            batch.transitions += changes
            batch.touched.add(line)
            batch.challenges[name] = shown

    def _look_for_hole(self) -> None:
        """Check that the stream still holds the entry this history ends at: what follows it is then there."""
        if self.position == START:
            return
        found = self._stream.read(_before(self.position), count=1)
        if found and found[0][0] == self.position:
            return
        newest = self._stream.latest(1)
        told, self._hole_told = self._hole_told == self.position, self.position
        if told and newest and not found:  # it was empty, and has begun anew with smaller ids
            log.warning("the verdict stream has begun anew: it is followed from its first entry")
            self._commit(START, _Batch(self._states))
            return
        if told:
            return
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
            self._commit(newest[0][0], _Batch(self._states))
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

    def _commit(self, position: str, batch: _Batch) -> None:
        states = batch.states
        consequences = Consequences(
            position=position,
            transitions=batch.transitions,
            grown=[alert for line in sorted(batch.touched) for alert in _grown(self._states.get(line), states[line])],
            states={line: states[line].model_dump_json() for line in sorted(batch.touched)},
            minutes=batch.minutes(),
            reasons=batch.reasons,
            held=batch.held,
            challenges=batch.challenges,
            audience=self._audience,
        )
        self._history.commit(consequences, after=self.position)
        self.position, self._states = position, states
        for transition in batch.transitions:
            alert = transition.alert
            log.info(
                "alert committed",
                change=transition.change.value,
                alert=alert.id,
                verdict=alert.verdict,
                line=alert.line,
                kind=alert.kind.value,
                entry=position,
            )
        if batch.challenges:
            self._challenged = list(batch.challenges)[-1]

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
