"""How long a line was not inspected, or by a camera or model that cannot be trusted, and why."""

from collections.abc import Iterable
from dataclasses import dataclass

from alerts.report.period import NS, Period
from alerts.report.spans import Span, length, merged
from storage.records import Alert, AlertKind

INSPECTED = frozenset({AlertKind.DEFECT, AlertKind.DRIFT})
"""Kinds of alerts during which a line is inspected; all others are downtime."""


@dataclass(frozen=True, slots=True)
class Downtime:
    """Time lost, seconds.

    Attributes:
        causes: kind of alert -> time it was open, longest first. Causes overlap.
        total_s: time at least one of them was open.
    """

    causes: dict[AlertKind, float]
    total_s: float


def downtime(alerts: Iterable[Alert], period: Period) -> Downtime:
    """Measure downtime within a period; an alert still open lasts until its end."""
    by_kind: dict[AlertKind, list[Span]] = {}
    for alert in alerts:
        if alert.kind not in INSPECTED:
            by_kind.setdefault(alert.kind, []).append(span(alert, period))
    within = (period.begin_ns, period.end_ns)
    lost = {kind: length(merged(spans, within=within)) / NS for kind, spans in by_kind.items()}
    causes = dict(sorted(((kind, s) for kind, s in lost.items() if s > 0), key=lambda cause: -cause[1]))
    every = merged((one for spans in by_kind.values() for one in spans), within=within)
    return Downtime(causes, length(every) / NS)


def span(alert: Alert, period: Period) -> Span:
    """From the first frame of an alert to when it was cleared, not clipped."""
    begin = alert.raised_ns if alert.started_ns is None else min(alert.started_ns, alert.raised_ns)
    return begin, period.end_ns if alert.cleared_ns is None else alert.cleared_ns
