"""How much waits to be told, to whom, and since when."""

from dataclasses import dataclass

from sqlalchemy import and_, func, select

from storage import tables
from storage.history import History


@dataclass(frozen=True, slots=True)
class Backlog:
    """What one sink has not been told yet.

    Attributes:
        messages: how many.
        attempts: failed so far, of all of them.
        oldest_ns: when the first of them happened: wall clock, nanoseconds since the epoch.
    """

    messages: int
    attempts: int
    oldest_ns: int


def backlog(history: History) -> dict[str, Backlog]:
    """Sink -> what waits for it; a sink that has been told everything is not in it.

    Raises:
        StoreUnavailable: ask again later.
    """
    t, event = tables.outbox.c, tables.alert_events.c
    happened = and_(event.alert == t.alert, event.change == t.change)
    query = (
        select(t.sink, func.count(), func.sum(t.attempts), func.min(event.at_ns))
        .select_from(tables.outbox.join(tables.alert_events, happened))
        .where(t.delivered_ns.is_(None))
        .group_by(t.sink)
    )
    with history.database.reading() as db:
        return {row[0]: Backlog(int(row[1]), int(row[2]), int(row[3])) for row in db.execute(query)}
