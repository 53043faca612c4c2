"""What happened: alerts, their changes, what is still to be told, and how far the verdict stream has been followed.

The alert service commits the consequences of a batch of verdicts with the stream position they end at, in one
transaction (`commit`). Killed at any moment it resumes at that position: no alert is lost or doubled.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from sqlalchemy import Connection, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from storage import tables
from storage.config import StorageConfig
from storage.database import Database
from storage.deliveries import Deliveries
from storage.errors import StorageError
from storage.records import Alert, Challenge, Change, Held, Transition

START = "0"
"""Position before the first entry of a stream."""
_VERDICTS, _CHALLENGES = 1, 2  # rows of the cursors
_GROWS = ("text", "count", "started_ns", "ended_ns", "worst_verdict", "worst_score", "worst_evidence")
"""What changes while an event goes on."""


@dataclass(frozen=True, slots=True)
class Counts:
    """Verdicts of one line in one minute."""

    passed: int = 0
    rejected: int = 0
    unknown: int = 0


@dataclass(frozen=True, slots=True)
class Consequences:
    """What a batch of verdicts, or a tick, leads to.

    Attributes:
        position: of the verdict stream, after the batch.
        transitions: in order.
        grown: open alerts whose event went on: count, end and worst frame are kept.
        states: line -> what the rules remember, JSON.
        minutes: (line, minute) -> verdicts to add.
        reasons: (line, minute, reason) -> verdicts `unknown` to add.
        held: models and thresholds that lines are held to from now on.
        challenges: entry of the stream of challenges -> golden sample's result, oldest first.
        audience: change -> names of the sinks that are to be told.
    """

    position: str
    transitions: Sequence[Transition] = ()
    grown: Sequence[Alert] = ()
    states: Mapping[str, str] = field(default_factory=dict)
    minutes: Mapping[tuple[str, int], Counts] = field(default_factory=dict)
    audience: Mapping[Change, Sequence[str]] = field(default_factory=dict)
    reasons: Mapping[tuple[str, int, str], int] = field(default_factory=dict)
    held: Sequence[Held] = ()
    challenges: Mapping[str, Challenge] = field(default_factory=dict)


class History(Deliveries):
    """The alert history of one site. Threads may share it.

    Every method raises StoreUnavailable when the database is away, locked or read-only, and StorageFull when there is
    no room; nothing is then half written.
    """

    def __init__(self, config: StorageConfig) -> None:
        super().__init__(Database(config))

    @classmethod
    def open(cls, config: StorageConfig) -> Self:
        """Open the history, creating it or bringing it to this version.

        Raises:
            StorageError: a wrong URL, a missing driver, or tables of a newer version.
        """
        history = cls(config)
        history._database.migrate()
        return history

    @property
    def database(self) -> Database:
        """Where it is kept, for what reads and writes other tables of it: labels, shifts."""
        return self._database

    def close(self) -> None:
        """Close all connections."""
        self._database.close()

    # --- following the stream

    def position(self) -> str:
        """Last stream entry whose consequences are in here; `START` when there is none."""
        with self._database.reading() as db:
            t = tables.stream_cursor.c
            return db.scalar(select(t.position).where(t.id == _VERDICTS)) or START

    def challenge_position(self) -> str:
        """Last entry of the stream of challenges that is in here; `START` when there is none."""
        with self._database.reading() as db:
            t = tables.stream_cursor.c
            return db.scalar(select(t.position).where(t.id == _CHALLENGES)) or START

    def rule_states(self) -> dict[str, str]:
        """Line -> what the rules remembered at `position`, JSON."""
        with self._database.reading() as db:
            return {row.line: row.state for row in db.execute(select(tables.rule_state))}

    def commit(self, consequences: Consequences, *, after: str) -> None:
        """Store everything a batch leads to, or nothing.

        Args:
            consequences: what to store.
            after: the position the batch began at.

        Raises:
            StorageError: the history is no longer at `after`: somebody else is following the stream too.
        """
        with self._database.writing() as db:
            self._advance(db, after=after, to=consequences.position)
            for transition in consequences.transitions:
                self._write(db, transition, sinks=consequences.audience.get(transition.change, ()))
            for alert in consequences.grown:
                row = alert.model_dump(mode="json")
                fields = {name: row[name] for name in _GROWS}
                db.execute(update(tables.alerts).where(tables.alerts.c.id == alert.id).values(fields))
            states = [{"line": line, "state": state} for line, state in consequences.states.items()]
            self._upsert(db, tables.rule_state, states, keep=("state",), key=("line",))
            counts = [
                {"line": line, "minute": minute, "passed": c.passed, "rejected": c.rejected, "unknown": c.unknown}
                for (line, minute), c in consequences.minutes.items()
            ]
            self._upsert(db, tables.minutes, counts, add=("passed", "rejected", "unknown"), key=("line", "minute"))
            why = [
                {"line": line, "minute": minute, "reason": reason, "count": count}
                for (line, minute, reason), count in consequences.reasons.items()
            ]
            self._upsert(db, tables.reasons, why, add=("count",), key=("line", "minute", "reason"))
            held = [one.model_dump(mode="json") for one in consequences.held]
            self._upsert(db, tables.held, held, keep=("model", "threshold", "n_good"), key=("line", "since_ns"))
            self._keep_challenges(db, consequences.challenges)

    def minutes(self, line: str, *, since: int, until: int) -> dict[int, Counts]:
        """Verdicts of a line per minute, `since` <= minute < `until` (minutes since the epoch)."""
        t = tables.minutes.c
        query = select(tables.minutes).where(t.line == line, t.minute >= since, t.minute < until)
        with self._database.reading() as db:
            return {row.minute: Counts(row.passed, row.rejected, row.unknown) for row in db.execute(query)}

    # --- alerts

    def alerts(self, *, open: bool | None = None, line: str | None = None, limit: int = 100) -> list[Alert]:  # noqa: A002 - the field's word
        """List alerts, newest first; `open`: only those not cleared (True), only cleared ones (False), all (None)."""
        t = tables.alerts.c
        query = select(tables.alerts).order_by(t.raised_ns.desc(), t.id.desc()).limit(limit)
        if open is not None:
            query = query.where(t.cleared_ns.is_(None) if open else t.cleared_ns.is_not(None))
        if line is not None:
            query = query.where(t.line == line)
        with self._database.reading() as db:
            return [_alert(row) for row in db.execute(query)]

    def alert(self, alert_id: str) -> Alert | None:
        """Look one alert up."""
        with self._database.reading() as db:
            return self._find(db, alert_id)

    def events(self, alert_id: str) -> list[Change]:
        """What happened to an alert, in order."""
        t = tables.alert_events.c
        query = select(t.change).where(t.alert == alert_id).order_by(t.id)
        with self._database.reading() as db:
            return [Change(change) for change in db.scalars(query)]

    def acknowledge(self, alert_id: str, *, by: str, now_ns: int, sinks: Sequence[str] = ()) -> Alert:
        """Note that somebody has seen an alert. The first one counts; a repetition changes nothing.

        Args:
            alert_id: which.
            by: who.
            now_ns: wall clock, nanoseconds since the epoch.
            sinks: names of the sinks that are to be told.

        Raises:
            StorageError: there is no such alert.
        """
        with self._database.writing() as db:
            return self.acknowledge_in(db, alert_id, by=by, now_ns=now_ns, sinks=sinks)

    def acknowledge_in(
        self, db: Connection, alert_id: str, *, by: str, now_ns: int, sinks: Sequence[str] = ()
    ) -> Alert:
        """As `acknowledge`, in a writing transaction of the caller's: what else it writes happens with it or not."""
        alert = self._find(db, alert_id)
        if alert is None:
            raise StorageError(
                f"alert {alert_id!r} is not in the history: `linewatch alerts list` shows those that are"
            )
        if alert.acknowledged_ns is not None:
            return alert
        alert = alert.model_copy(update={"acknowledged_ns": now_ns, "acknowledged_by": by})
        self._write(db, Transition(change=Change.ACKNOWLEDGED, alert=alert, at_ns=now_ns), sinks=sinks)
        return alert

    # --- rows

    def _keep_challenges(self, db: Connection, challenges: Mapping[str, Challenge]) -> None:
        rows = [
            {
                "id": entry,
                "line": challenge.line,
                "at_ns": challenge.at_ns,
                "missed": int(challenge.missed),
                "challenge": challenge.model_dump_json(),
            }
            for entry, challenge in challenges.items()
        ]
        self._upsert(db, tables.challenges, rows, key=("id",))
        if rows:
            cursor = [{"id": _CHALLENGES, "position": list(challenges)[-1]}]
            self._upsert(db, tables.stream_cursor, cursor, keep=("position",), key=("id",))

    def _advance(self, db: Connection, *, after: str, to: str) -> None:
        cursor = tables.stream_cursor
        if after == START:
            self._upsert(db, cursor, [{"id": _VERDICTS, "position": START}], key=("id",))
        moved = db.execute(
            update(cursor).where(cursor.c.id == _VERDICTS, cursor.c.position == after).values(position=to)
        )
        if moved.rowcount != 1:
            raise StorageError(
                f"{self._database.name}: is no longer at stream position {after}: another alert service writes to it; "
                "stop one of the two"
            )

    def _write(self, db: Connection, transition: Transition, *, sinks: Sequence[str]) -> None:
        alert, change = transition.alert, transition.change
        row = alert.model_dump(mode="json")
        if change is Change.RAISED:
            db.execute(insert(tables.alerts).values(row))
        else:
            changed = {
                Change.CLEARED: ("cleared_ns", *_GROWS),
                Change.ACKNOWLEDGED: ("acknowledged_ns", "acknowledged_by"),
            }[change]
            fields = {name: row[name] for name in changed}
            db.execute(update(tables.alerts).where(tables.alerts.c.id == alert.id).values(fields))
        event = {"alert": alert.id, "change": change.value, "at_ns": transition.at_ns}
        by = alert.acknowledged_by if change is Change.ACKNOWLEDGED else None
        db.execute(insert(tables.alert_events).values(**event, by=by))
        self.post(db, transition, sinks=sinks)

    def _find(self, db: Connection, alert_id: str) -> Alert | None:
        row = db.execute(select(tables.alerts).where(tables.alerts.c.id == alert_id)).one_or_none()
        return None if row is None else _alert(row)

    def _upsert(
        self,
        db: Connection,
        table: Any,
        rows: list[dict[str, Any]],
        *,
        key: Sequence[str],
        keep: Sequence[str] = (),
        add: Sequence[str] = (),
    ) -> None:
        """Insert rows; where the key exists, replace the columns of `keep` and add to those of `add`."""
        if not rows:
            return
        new = postgresql.insert(table) if self._database.dialect == "postgresql" else sqlite.insert(table)
        changes = {name: new.excluded[name] for name in keep} | {
            name: table.c[name] + new.excluded[name] for name in add
        }
        if changes:
            db.execute(new.on_conflict_do_update(index_elements=list(key), set_=changes), rows)
        else:
            db.execute(new.on_conflict_do_nothing(index_elements=list(key)), rows)


def _alert(row: Any) -> Alert:
    return Alert.model_validate(dict(row._mapping))  # noqa: SLF001 - SQLAlchemy's documented name for a row as a mapping
