"""The numbers of a report, under the names that CSV and JSON have for them."""

from dataclasses import dataclass

from alerts.report.contents import LineReport
from alerts.report.downtime import downtime
from alerts.report.period import NS, Period
from storage.records import Alert, Label

_MILLION = 1e6


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one line, or of several together, over one period.

    Attributes:
        captured: frames that ended in a verdict.
        judged: of these, the ones that are `pass` or `reject`.
        passed: judged good.
        rejected: judged defective.
        unknown: not inspected.
        reject_ppm: rejects per million judged; None: nothing was judged.
        unknown_share: of the captured; None: nothing was captured.
        events: alerts of kind defect, each with many rejects or few.
        true_defects: of these, confirmed by an operator.
        false_alarms: denied by an operator.
        known_variations: not wanted, but no defect, says an operator.
        conditions: alerts of all other kinds.
        acknowledged: alerts that somebody has seen.
        downtime_s: seconds in which a line was not inspected, causes that overlap counted once.
        downtime_share: of the period.
        golden_shown: golden samples shown.
        golden_missed: of these, not judged as they must be.
    """

    captured: int
    judged: int
    passed: int
    rejected: int
    unknown: int
    reject_ppm: float | None
    unknown_share: float | None
    events: int
    true_defects: int
    false_alarms: int
    known_variations: int
    conditions: int
    acknowledged: int
    downtime_s: float
    downtime_share: float
    golden_shown: int
    golden_missed: int


def figures(period: Period, *lines: LineReport) -> Figures:
    """Count up one line, or several; the share of downtime of several is their mean."""
    verdicts = [line.verdicts for line in lines]
    passed, rejected, unknown = (sum(getattr(v, name) for v in verdicts) for name in ("passed", "rejected", "unknown"))
    judged = passed + rejected
    captured = judged + unknown
    labels = [event.label for line in lines for event in line.events]
    lost_s = sum(downtime(line.alerts, period).total_s for line in lines)
    challenges = [challenge for line in lines for challenge in line.challenges]
    return Figures(
        captured=captured,
        judged=judged,
        passed=passed,
        rejected=rejected,
        unknown=unknown,
        reject_ppm=rejected / judged * _MILLION if judged else None,
        unknown_share=unknown / captured if captured else None,
        events=len(labels),
        true_defects=labels.count(Label.TRUE_DEFECT),
        false_alarms=labels.count(Label.FALSE_ALARM),
        known_variations=labels.count(Label.KNOWN_VARIATION),
        conditions=sum(len(line.conditions) for line in lines),
        acknowledged=sum(alert.acknowledged_ns is not None for line in lines for alert in line.alerts),
        downtime_s=lost_s,
        downtime_share=lost_s / (period.seconds * len(lines)) if lines else 0.0,
        golden_shown=len(challenges),
        golden_missed=sum(challenge.missed for challenge in challenges),
    )


def duration_s(event: Alert) -> float | None:
    """From an event's first frame to its last, seconds; None: it goes on, or is known by its raise alone."""
    if event.cleared_ns is None:
        return None
    begin = event.raised_ns if event.started_ns is None else event.started_ns
    end = event.cleared_ns if event.ended_ns is None else event.ended_ns
    return max(0, end - begin) / NS


def worst_score(event: Alert) -> float | None:
    """Of its most anomalous frame."""
    return event.score if event.worst_score is None else event.worst_score


def excess(event: Alert) -> float:
    """How far its worst score lies above the threshold, as a share of it: comparable over models, for ranking."""
    score = worst_score(event)
    if score is None or event.threshold is None:
        return float("-inf")
    return (score - event.threshold) / max(abs(event.threshold), 1e-12)


def worst(lines: list[LineReport], count: int) -> list[Alert]:
    """Rank events of all lines, the worst first; of two alike the earlier."""
    events = [event for line in lines for event in line.events]
    return sorted(events, key=lambda event: (-excess(event), event.raised_ns))[:count]
