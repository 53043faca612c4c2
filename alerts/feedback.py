"""What labelled alerts say of a line: overkill, escapes, how many alerts are worth waking up for, a better threshold.

Pure: counts and alerts in, estimates out. Every estimate is a share with an interval of 95 % confidence.

Nobody labels everything, and what was not labelled is not guessed away:

- *unlabelled alerts* are taken to be like the labelled ones, event by event; how far that may be wrong for so few
  labels is in the interval (Clopper and Pearson on the labelled share);
- *rejects that raised no alert* were shown to nobody: the interval reaches from "none was good" to "all were good";
- *frames of one event* are no independent witnesses. Counts are divided by how many frames say the same thing, the
  design effect of clusters of unequal size, sum c^2 / sum c (Korn and Graubard 1998, "Confidence intervals for
  proportions with small expected number of positive counts estimated from survey data", Survey Methodology 24(2));
- *escapes nobody reported* are not seen: the escape rate is what is known of it, hence a lower bound.

Where two uncertainties meet, each gets half of the 5 % (Bonferroni).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from pydantic import BaseModel, ConfigDict

from alerts.proportion import Share, clopper_pearson, counted
from alerts.suggestion import NoSuggestion, Suggestion, suggest
from storage.history import Counts
from storage.records import Alert, Label

FEW = 10
"""With fewer labelled alerts, intervals are so wide that they say little; it is said so."""
_CONFIDENCE = 0.95
_HALF = 1 - (1 - _CONFIDENCE) / 2


@dataclass(frozen=True, slots=True)
class Record:
    """What is known of a line and period.

    Attributes:
        counts: its verdicts.
        alerts: its defect alerts, labelled or not.
        escapes: defects that passed, as far as reported.
        alike: frames that say the same thing at least: the calibration's decorrelation of a video, 1 for parts.
    """

    counts: Counts = field(default_factory=Counts)
    alerts: Sequence[Alert] = ()
    escapes: int = 0
    alike: float = 1.0


class Feedback(BaseModel):
    """What a period's labels say."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    passed: int
    rejected: int
    unknown: int
    """Not inspected: part of no estimate."""
    alerts: int
    true_defects: int
    false_alarms: int
    known_variations: int
    unlabelled: int
    escapes: int
    overkill: Share
    """Share of good frames (or parts) that were rejected."""
    precision: Share
    """Share of alerts that are true defects."""
    escape: Share
    """Share of defects that passed, as far as reported: a lower bound."""
    few: bool
    """Too few alerts are labelled for the estimates to say much."""
    suggestion: Suggestion | NoSuggestion


def estimate(record: Record, *, losing: int = 0) -> Feedback:
    """Work out what a period's labels say.

    Args:
        record: the period.
        losing: labelled true defects that a suggested threshold may lose.
    """
    good = [alert for alert in record.alerts if alert.label in (Label.FALSE_ALARM, Label.KNOWN_VARIATION)]
    true = [alert for alert in record.alerts if alert.label is Label.TRUE_DEFECT]
    unlabelled = [alert for alert in record.alerts if alert.label is None]
    overkill = _overkill(record, good, true, unlabelled)
    escape = _escape(record.escapes, true=len(true), good=len(good), unlabelled=len(unlabelled))
    return Feedback(
        passed=record.counts.passed,
        rejected=record.counts.rejected,
        unknown=record.counts.unknown,
        alerts=len(record.alerts),
        true_defects=len(true),
        false_alarms=sum(alert.label is Label.FALSE_ALARM for alert in good),
        known_variations=sum(alert.label is Label.KNOWN_VARIATION for alert in good),
        unlabelled=len(unlabelled),
        escapes=record.escapes,
        overkill=overkill,
        precision=counted(len(true), len(true) + len(good), _CONFIDENCE),
        escape=escape,
        few=len(good) + len(true) < FEW,
        suggestion=suggest(good, true, overkill=overkill, escapes=record.escapes, losing=losing),
    )


def _overkill(record: Record, good: Sequence[Alert], true: Sequence[Alert], unlabelled: Sequence[Alert]) -> Share:
    rejected, shown = record.counts.rejected, _frames(record.alerts)
    # Events may hold frames that passed (`alert.hold`, `alert.cusum`): each then counts for as many as were rejected.
    part = min(1.0, rejected / shown) if shown else 1.0
    surely, waiting, unseen = part * _frames(good), part * _frames(unlabelled), max(0, rejected - shown)
    labelled = len(good) + len(true)
    guessed = waiting + unseen > 0
    share = len(good) / labelled if labelled else None
    low, high = clopper_pearson(len(good), labelled, _HALF)
    fewest, most = surely + low * waiting, surely + high * waiting + unseen
    passed = max(0, record.counts.passed - record.escapes)
    alike = max(record.alike, 1.0, _alike(record.alerts))
    confidence = _HALF if guessed else _CONFIDENCE
    value = None
    if share is not None or not guessed:
        likely = surely + (share or 0.0) * (waiting + unseen)
        value = likely / (passed + likely) if passed + likely else None
    return Share(
        value=value,
        low=_independent(math.floor, fewest, passed, alike, confidence)[0],
        high=_independent(math.ceil, most, passed, alike, confidence)[1],
    )


def _independent(
    whole: Callable[[float], int], rejected: float, passed: float, alike: float, confidence: float
) -> tuple[float, float]:
    """Interval of the share of good frames rejected, frames counted as often as they say something new."""
    hits = whole(rejected / alike)
    return clopper_pearson(hits, hits + round(passed / alike), confidence)


def _escape(escapes: int, *, true: int, good: int, unlabelled: int) -> Share:
    """Escapes among all defects; each alert that is not labelled may be a defect or not."""
    labelled = true + good
    value = None
    if labelled or not unlabelled:
        caught = true + (unlabelled * true / labelled if labelled else 0)
        value = escapes / (escapes + caught) if escapes + caught else None
    return Share(
        value=value,
        low=clopper_pearson(escapes, escapes + true + unlabelled, _CONFIDENCE)[0],
        high=clopper_pearson(escapes, escapes + true, _CONFIDENCE)[1],
    )


def _frames(alerts: Sequence[Alert]) -> int:
    return sum(alert.count for alert in alerts)


def _alike(alerts: Sequence[Alert]) -> float:
    """Design effect: mean number of frames in a frame's event; of all alerts, so that no label moves it."""
    frames = _frames(alerts)
    return sum(alert.count**2 for alert in alerts) / frames if frames else 1.0
