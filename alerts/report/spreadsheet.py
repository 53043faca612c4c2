"""Reports as CSV, for spreadsheets: a row per line and shift, and a row per event. `docs/report.md` has the columns."""

import csv
import io
from collections.abc import Iterable
from dataclasses import asdict, fields
from datetime import tzinfo

from alerts.feedback import Feedback
from alerts.report.contents import LineReport, Report
from alerts.report.figures import Figures, duration_s, figures, worst_score
from alerts.report.wording import Clock
from storage.records import Alert

COLUMNS = (
    *("site", "line", "begin", "end", "so_far"),
    *(field.name for field in fields(Figures)),
    *("unknown_by_reason", "model", "threshold"),
    *("overkill", "overkill_low", "overkill_high", "precision", "precision_low", "precision_high", "escapes"),
)
EVENT_COLUMNS = (
    *("site", "line", "alert", "begin", "end", "duration_s", "open", "frames", "worst_score", "threshold", "model"),
    *("label", "labelled_by", "note", "acknowledged_by", "evidence"),
)
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def lines_csv(reports: Iterable[Report], *, zone: tzinfo | None = None) -> str:
    """Write a row per line of each report."""
    rows = [_row(report, line, Clock(report.period, zone)) for report in reports for line in report.lines]
    return _csv(COLUMNS, rows)


def events_csv(report: Report, *, zone: tzinfo | None = None) -> str:
    """Write a row per event."""
    clock = Clock(report.period, zone)
    return _csv(EVENT_COLUMNS, [_event(report, line, event, clock) for line in report.lines for event in line.events])


def _row(report: Report, line: LineReport, clock: Clock) -> dict[str, object]:
    held = line.held[-1] if line.held else None
    return {
        "site": report.site,
        "line": line.line,
        "begin": clock.iso(report.period.begin_ns),
        "end": clock.iso(report.period.end_ns),
        "so_far": report.period.planned_ns is not None,
        **asdict(figures(report.period, line)),
        "unknown_by_reason": ";".join(f"{reason}={count}" for reason, count in line.reasons.items()),
        "model": held.model if held else None,
        "threshold": held.threshold if held else None,
        **_estimates(line.feedback),
    }


def _estimates(feedback: Feedback | None) -> dict[str, object]:
    if feedback is None:
        return {}
    shares = {"overkill": feedback.overkill, "precision": feedback.precision}
    columns: dict[str, object] = {"escapes": feedback.escapes}
    for name, share in shares.items():
        columns |= {name: share.value, f"{name}_low": share.low, f"{name}_high": share.high}
    return columns


def _event(report: Report, line: LineReport, event: Alert, clock: Clock) -> dict[str, object]:
    lasted_s = duration_s(event)
    end_ns = event.cleared_ns if event.ended_ns is None else event.ended_ns
    return {
        "site": report.site,
        "line": line.line,
        "alert": event.id,
        "begin": clock.iso(event.raised_ns if event.started_ns is None else event.started_ns),
        "end": None if lasted_s is None or end_ns is None else clock.iso(end_ns),
        "duration_s": lasted_s,
        "open": event.cleared_ns is None,
        "frames": event.count,
        "worst_score": worst_score(event),
        "threshold": event.threshold,
        "model": event.model,
        "label": event.label.value if event.label else None,
        "labelled_by": event.labelled_by,
        "note": line.notes.get(event.id),
        "acknowledged_by": event.acknowledged_by,
        "evidence": event.worst_evidence or event.evidence,
    }


def _csv(columns: Iterable[str], rows: Iterable[dict[str, object]]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, list(columns), lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _cell(value) for name, value in row.items()} for row in rows)
    return out.getvalue()


def _cell(value: object) -> object:
    """Keep a spreadsheet from running what a person has written as a formula."""
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, str) and value.startswith(_FORMULA):
        return f"'{value}"
    return "" if value is None else value
