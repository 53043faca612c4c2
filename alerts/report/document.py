"""A report as JSON: the figures, and all they were counted from."""

import json
from dataclasses import asdict
from datetime import tzinfo
from typing import Any

from alerts.report.contents import LineReport, Report
from alerts.report.downtime import downtime
from alerts.report.figures import figures
from alerts.report.period import Period
from alerts.report.wording import Clock

VERSION = 1
"""Of the document; changed when a key changes its meaning or goes."""


def to_json(report: Report, *, zone: tzinfo | None = None) -> str:
    """Write a report as JSON. Times ending in `_ns` are nanoseconds since the epoch, others ISO 8601 with offset."""
    period, clock = report.period, Clock(report.period, zone)
    return json.dumps(
        {
            "v": VERSION,
            "site": report.site,
            "begin": clock.iso(period.begin_ns),
            "end": clock.iso(period.end_ns),
            "so_far": period.planned_ns is not None,
            "made": clock.iso(report.made_ns),
            "figures": asdict(figures(period, *report.lines)),
            "lines": [_line(line, period) for line in report.lines],
        },
        indent=1,
    )


def _line(line: LineReport, period: Period) -> dict[str, Any]:
    bins = line.timeline
    return {
        "line": line.line,
        "figures": asdict(figures(period, line)),
        "reasons": dict(line.reasons),
        "downtime_s": {kind.value: lost_s for kind, lost_s in downtime(line.alerts, period).causes.items()},
        "timeline": {
            "bin_ns": bins.bin_ns,
            "counts": [{"begin_ns": n * bins.bin_ns, **asdict(c)} for n, c in sorted(bins.counts.items())],
        },
        "alerts": [alert.model_dump(mode="json") | {"note": line.notes.get(alert.id, "")} for alert in line.alerts],
        "feedback": None if line.feedback is None else line.feedback.model_dump(mode="json"),
        "held": [held.model_dump(mode="json") for held in line.held],
        "challenges": [challenge.model_dump(mode="json") for challenge in line.challenges],
    }
