"""What people say of alerts, and the defects that passed and were found later.

Nothing is ever overwritten: each label is a row of its own, and the last one of an alert counts. It is kept on the
alert's row too, in the same transaction, so that who reads alerts reads what is said of them.
"""

from collections.abc import Collection, Sequence

from pydantic import BaseModel, ConfigDict
from sqlalchemy import insert, select, update

from storage import tables
from storage.history import History
from storage.records import Alert, AlertKind, Label


class Said(BaseModel):
    """One label, as it was given."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    alert: str
    label: Label
    at_ns: int
    """Wall clock, nanoseconds since the epoch."""
    by: str
    note: str = ""


class Escape(BaseModel):
    """A defect that passed, as somebody found out later."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    line: str
    captured_ns: int
    """When the part was before the camera, as far as known; nanoseconds since the epoch."""
    part: str | None = None
    noted_ns: int
    by: str
    note: str = ""


class Labels:
    """Labels and escapes of one site, in its history. Threads may share it.

    Every method raises StoreUnavailable when the database is away, locked or read-only, and StorageFull when there is
    no room; nothing is then half written.
    """

    def __init__(self, history: History) -> None:
        self._history = history
        self._database = history.database

    def label(
        self, alert_id: str, label: Label, *, by: str, now_ns: int, note: str = "", sinks: Sequence[str] = ()
    ) -> Alert:
        """Note what somebody says of an alert. Who judges it has seen it: the first label acknowledges too.

        Args:
            alert_id: which.
            label: what it was; takes the place of what was said before, which is kept.
            by: who says so.
            now_ns: wall clock, nanoseconds since the epoch.
            note: anything else.
            sinks: names of the sinks that are to be told that it was acknowledged.

        Raises:
            StorageError: there is no such alert.
        """
        with self._database.writing() as db:
            alert = self._history.acknowledge_in(db, alert_id, by=by, now_ns=now_ns, sinks=sinks)
            given = {"label": label.value, "labelled_ns": now_ns, "labelled_by": by}
            db.execute(update(tables.alerts).where(tables.alerts.c.id == alert_id).values(given))
            row = {"alert": alert_id, "label": label.value, "at_ns": now_ns, "by": by, "note": note}
            db.execute(insert(tables.labels).values(row))
            return alert.model_copy(update=given | {"label": label})

    def said(self, alert_id: str) -> list[Said]:
        """All that was ever said of an alert, oldest first."""
        t = tables.labels.c
        query = select(t.alert, t.label, t.at_ns, t.by, t.note).where(t.alert == alert_id).order_by(t.id)
        with self._database.reading() as db:
            return [Said.model_validate(dict(row)) for row in db.execute(query).mappings()]

    def defects(
        self, line: str, *, since_ns: int, until_ns: int | None = None, labels: Collection[Label] | None = None
    ) -> list[Alert]:
        """Defect alerts of a line, oldest first.

        Args:
            line: its name.
            since_ns: raised no earlier than this.
            until_ns: raised before this; None: until now.
            labels: only those last labelled so; None: all, labelled or not.
        """
        t = tables.alerts.c
        query = (
            select(tables.alerts)
            .where(t.line == line, t.kind == AlertKind.DEFECT.value, t.raised_ns >= since_ns)
            .order_by(t.raised_ns, t.id)
        )
        if until_ns is not None:
            query = query.where(t.raised_ns < until_ns)
        if labels is not None:
            query = query.where(t.label.in_([label.value for label in labels]))
        with self._database.reading() as db:
            return [Alert.model_validate(dict(row)) for row in db.execute(query).mappings()]

    def note_escape(self, escape: Escape) -> None:
        """Note a defect that passed."""
        with self._database.writing() as db:
            db.execute(insert(tables.escapes).values(escape.model_dump(mode="json")))

    def escapes(self, line: str, *, since_ns: int, until_ns: int | None = None) -> list[Escape]:
        """Defects of a line that passed, oldest first; times are those of capture."""
        t = tables.escapes.c
        columns = [t[name] for name in Escape.model_fields]
        query = select(*columns).where(t.line == line, t.captured_ns >= since_ns).order_by(t.captured_ns, t.id)
        if until_ns is not None:
            query = query.where(t.captured_ns < until_ns)
        with self._database.reading() as db:
            return [Escape.model_validate(dict(row)) for row in db.execute(query).mappings()]
