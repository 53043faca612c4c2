"""From the history to a report."""

from collections.abc import Sequence
from dataclasses import replace

from alerts.feedback import Record, estimate
from alerts.report.contents import LineReport, Report, Timeline
from alerts.report.period import Period
from storage.audits import Audits
from storage.history import History
from storage.labels import Labels
from storage.shifts import Shifts

_CHALLENGES = 100_000


def gather(
    history: History, *, site: str, lines: Sequence[str], period: Period, made_ns: int, others: bool = False
) -> Report:
    """Read all that a report says.

    Args:
        history: what happened.
        site: name of the place, for people.
        lines: which.
        period: which stretch of time.
        made_ns: wall clock, nanoseconds since the epoch.
        others: also lines not named that have left a trace in the period: they were watched then.

    Raises:
        StoreUnavailable: the database is away.
    """
    shifts = Shifts(history)
    traces = shifts.lines(since_ns=period.begin_ns, until_ns=period.end_ns) if others else []
    names = dict.fromkeys([*lines, *traces])
    return Report(site, period, [_line(history, shifts, line, period) for line in names], made_ns)


def _line(history: History, shifts: Shifts, line: str, period: Period) -> LineReport:
    within = {"since_ns": period.begin_ns, "until_ns": period.end_ns}
    minutes = period.minutes
    found = LineReport(
        line=line,
        timeline=Timeline(history.minutes(line, since=minutes.start, until=minutes.stop)),
        reasons=shifts.reasons(line, **within),
        alerts=shifts.alerts(line, **within),
        held=shifts.held(line, **within),
        challenges=Audits(history.database).results(
            line=line, since_ns=period.begin_ns, until_ns=period.end_ns, limit=_CHALLENGES
        )[::-1],
        notes=shifts.notes(line, **within),
    )
    escapes = len(Labels(history).escapes(line, **within))
    return replace(found, feedback=estimate(Record(found.verdicts, found.events, escapes)))
