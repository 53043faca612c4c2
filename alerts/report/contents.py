"""What a report is made of: plain data, from a history or from anything else that has verdicts and alerts.

::

    Report ─ period, lines ─ LineReport ─ timeline (pass, reject, unknown per bin), reasons
                                        ├ alerts   (events are those of kind `defect`; the rest are conditions)
                                        ├ held     (models and thresholds in force), challenges (golden samples)
                                        └ feedback (what operators' labels say), notes (what they wrote)

`alerts.report.gather` fills it from a history, `alerts.report.figures` has the numbers that follow from it, and
`alerts.report.render` makes a page of it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from alerts.feedback import Feedback
from alerts.report.period import MINUTE_NS, Period
from storage.history import Counts
from storage.records import Alert, AlertKind, Challenge, Held


@dataclass(frozen=True, slots=True)
class Timeline:
    """Verdicts per bin of time.

    Attributes:
        counts: bin -> verdicts in it; a bin begins at its number times `bin_ns`.
        bin_ns: width of a bin, nanoseconds.
    """

    counts: Mapping[int, Counts] = field(default_factory=dict)
    bin_ns: int = MINUTE_NS


@dataclass(frozen=True, slots=True)
class LineReport:
    """What happened on one line.

    Attributes:
        line: its name.
        timeline: verdicts over time.
        reasons: why frames are `unknown` -> how many.
        alerts: those that overlap the period, oldest first.
        held: models and thresholds, oldest first; the first one was in force when the period began, if one was.
        challenges: golden samples shown, oldest first.
        notes: id of an alert -> what an operator wrote about it.
        feedback: what operators' labels say of overkill and precision; None: nobody was asked.
    """

    line: str
    timeline: Timeline = Timeline()
    reasons: Mapping[str, int] = field(default_factory=dict)
    alerts: Sequence[Alert] = ()
    held: Sequence[Held] = ()
    challenges: Sequence[Challenge] = ()
    notes: Mapping[str, str] = field(default_factory=dict)
    feedback: Feedback | None = None

    @property
    def verdicts(self) -> Counts:
        """All of the period."""
        return add(self.timeline.counts.values())

    @property
    def events(self) -> list[Alert]:
        """Alerts of kind defect."""
        return [alert for alert in self.alerts if alert.kind is AlertKind.DEFECT]

    @property
    def conditions(self) -> list[Alert]:
        """All other alerts."""
        return [alert for alert in self.alerts if alert.kind is not AlertKind.DEFECT]


@dataclass(frozen=True, slots=True)
class Report:
    """A stretch of time on some lines.

    Attributes:
        site: name of the place, for people.
        period: which stretch.
        lines: by name.
        made_ns: when it was made, wall clock.
        elapsed: a recording, without a clock of its own: times are shown since the period's beginning.
    """

    site: str
    period: Period
    lines: Sequence[LineReport]
    made_ns: int
    elapsed: bool = False

    @property
    def empty(self) -> bool:
        """Whether nothing at all is known of the period."""
        return not any(line.timeline.counts or line.alerts or line.challenges for line in self.lines)


def add(counts: Iterable[Counts]) -> Counts:
    """Sum of counts."""
    total = Counts()
    for one in counts:
        total = Counts(total.passed + one.passed, total.rejected + one.rejected, total.unknown + one.unknown)
    return total
