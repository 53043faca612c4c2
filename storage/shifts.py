"""What happened in a stretch of time: the history as a report reads it."""

from sqlalchemy import ColumnElement, func, select, union

from storage import tables
from storage.history import History
from storage.records import Alert, Held

_MINUTE_NS = 60_000_000_000


class Shifts:
    """Reads a history by time. Every method raises StoreUnavailable when the database is away.

    Times are nanoseconds since the epoch, from `since_ns` to before `until_ns`. What is counted by the minute is
    counted for every minute that they touch.

    Args:
        history: what happened.
    """

    def __init__(self, history: History) -> None:
        self._database = history.database

    def lines(self, *, since_ns: int, until_ns: int) -> list[str]:
        """Name the lines of which verdicts or alerts are known, also those of no configuration any more."""
        minutes = tables.minutes.c
        first, end = _minutes(since_ns, until_ns)
        alerts = tables.alerts.c
        query = union(
            select(minutes.line).where(minutes.minute >= first, minutes.minute < end),
            select(alerts.line).where(*_overlapping(since_ns, until_ns)),
        )
        with self._database.reading() as db:
            return sorted(db.scalars(query))

    def reasons(self, line: str, *, since_ns: int, until_ns: int) -> dict[str, int]:
        """Why frames of a line are `unknown` -> how many, most first."""
        t = tables.reasons.c
        first, end = _minutes(since_ns, until_ns)
        count = func.sum(t.count)
        query = (
            select(t.reason, count)
            .where(t.line == line, t.minute >= first, t.minute < end)
            .group_by(t.reason)
            .order_by(count.desc(), t.reason)
        )
        with self._database.reading() as db:
            return {reason: int(n) for reason, n in db.execute(query)}

    def alerts(self, line: str, *, since_ns: int, until_ns: int) -> list[Alert]:
        """List alerts of a line that were going on at some time of it, oldest first."""
        t = tables.alerts.c
        query = (
            select(tables.alerts).where(t.line == line, *_overlapping(since_ns, until_ns)).order_by(t.raised_ns, t.id)
        )
        with self._database.reading() as db:
            return [Alert.model_validate(dict(row)) for row in db.execute(query).mappings()]

    def held(self, line: str, *, since_ns: int, until_ns: int) -> list[Held]:
        """List what a line was held to, oldest first: what was in force at the beginning, and each change."""
        t = tables.held.c
        before = select(func.max(t.since_ns)).where(t.line == line, t.since_ns <= since_ns).scalar_subquery()
        query = (
            select(tables.held)
            .where(t.line == line, t.since_ns < until_ns, t.since_ns >= func.coalesce(before, since_ns))
            .order_by(t.since_ns)
        )
        with self._database.reading() as db:
            return [Held.model_validate(dict(row)) for row in db.execute(query).mappings()]

    def notes(self, line: str, *, since_ns: int, until_ns: int) -> dict[str, str]:
        """Id of an alert that was going on -> what was last written about it; without those of which nothing was."""
        t = tables.labels.c
        query = (
            select(t.alert, t.note)
            .join(tables.alerts, tables.alerts.c.id == t.alert)
            .where(tables.alerts.c.line == line, t.note != "", *_overlapping(since_ns, until_ns))
            .order_by(t.id)
        )
        with self._database.reading() as db:
            return {alert: note for alert, note in db.execute(query)}  # noqa: C416 - a Row is no tuple[str, str] to mypy


def _minutes(since_ns: int, until_ns: int) -> tuple[int, int]:
    return since_ns // _MINUTE_NS, -(-until_ns // _MINUTE_NS)


def _overlapping(since_ns: int, until_ns: int) -> tuple[ColumnElement[bool], ...]:
    t = tables.alerts.c
    begin = func.coalesce(t.started_ns, t.raised_ns)
    return begin < until_ns, (t.cleared_ns.is_(None)) | (t.cleared_ns > since_ns)
