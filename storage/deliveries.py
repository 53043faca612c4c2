"""What is still to be told to whom: written with the alert it is of, in one transaction, and read by couriers."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, and_, delete, exists, func, insert, or_, select, update

from storage import tables
from storage.database import Database
from storage.records import Change, Transition

_NS = 1_000_000_000
LONGEST_PAUSE_S = 600.0
"""No delivery waits longer than this for its next try; one that seems to means that the clock was set back."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """Something to be told to one sink.

    Attributes:
        id: row of the outbox.
        sink: name of the sink.
        alert: id of the alert.
        change: what happened to it.
        payload: the message, JSON.
        attempts: failed so far.
    """

    id: int
    sink: str
    alert: str
    change: Change
    payload: str
    attempts: int

    @property
    def key(self) -> str:
        """Names the message for good: a receiver that has seen it may ignore it."""
        return f"{self.alert}:{self.change}"


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


class Deliveries:
    """The part of the history that couriers work on. Threads may share it; errors are those of `History`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def post(self, db: Connection, transition: Transition, *, sinks: Sequence[str]) -> None:
        """Add a message for each sink, in the transaction that stores what it tells."""
        if sinks:
            alert, change = transition.alert, transition.change
            message = {"payload": transition.model_dump_json(), "attempts": 0, "next_try_ns": 0}
            messages = [{"sink": sink, "alert": alert.id, "change": change.value, **message} for sink in sinks]
            db.execute(insert(tables.outbox), messages)

    def due(self, sink: str, *, now_ns: int, limit: int = 32) -> list[Delivery]:
        """What is to be told to a sink now, oldest first; of one alert only the first change not told yet."""
        t, earlier = tables.outbox.c, tables.outbox.alias("earlier")
        unordered = exists().where(
            earlier.c.sink == t.sink, earlier.c.alert == t.alert, earlier.c.delivered_ns.is_(None), earlier.c.id < t.id
        )
        ripe = or_(t.next_try_ns <= now_ns, t.next_try_ns > now_ns + round(LONGEST_PAUSE_S * _NS))
        query = (
            select(tables.outbox)
            .where(and_(t.sink == sink, t.delivered_ns.is_(None), ripe, ~unordered))
            .order_by(t.id)
            .limit(limit)
        )
        with self._database.reading() as db:
            rows = db.execute(query).all()
        return [Delivery(r.id, r.sink, r.alert, Change(r.change), r.payload, r.attempts) for r in rows]

    def delivered(self, delivery: Delivery, *, now_ns: int) -> None:
        """Note that a sink took it."""
        with self._database.writing() as db:
            db.execute(update(tables.outbox).where(tables.outbox.c.id == delivery.id).values(delivered_ns=now_ns))

    def postponed(self, delivery: Delivery, *, next_try_ns: int) -> None:
        """Note that a sink did not take it, and when to try again."""
        with self._database.writing() as db:
            db.execute(
                update(tables.outbox)
                .where(tables.outbox.c.id == delivery.id)
                .values(attempts=delivery.attempts + 1, next_try_ns=next_try_ns)
            )

    def undelivered(self) -> dict[str, int]:
        """Sink -> messages not told yet."""
        t = tables.outbox.c
        query = select(t.sink, func.count()).where(t.delivered_ns.is_(None)).group_by(t.sink)
        with self._database.reading() as db:
            return {sink: count for sink, count in db.execute(query)}  # noqa: C416 - a Row is no tuple[str, int] to mypy

    def backlog(self) -> dict[str, Backlog]:
        """Sink -> what waits for it; a sink that has been told everything is not in it."""
        t, event = tables.outbox.c, tables.alert_events.c
        happened = and_(event.alert == t.alert, event.change == t.change)
        query = (
            select(t.sink, func.count(), func.sum(t.attempts), func.min(event.at_ns))
            .select_from(tables.outbox.join(tables.alert_events, happened))
            .where(t.delivered_ns.is_(None))
            .group_by(t.sink)
        )
        with self._database.reading() as db:
            return {row[0]: Backlog(int(row[1]), int(row[2]), int(row[3])) for row in db.execute(query)}

    def forget_delivered(self, *, before_ns: int) -> int:
        """Drop messages told before a time; the alerts and their events stay. Returns how many."""
        with self._database.writing() as db:
            return db.execute(delete(tables.outbox).where(tables.outbox.c.delivered_ns < before_ns)).rowcount
