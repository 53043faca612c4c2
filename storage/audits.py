"""What golden samples proved, read back for audits, and how to add what was proved while nothing was running."""

import uuid
from collections.abc import Sequence

from sqlalchemy import insert, select

from storage import tables
from storage.database import Database
from storage.records import Challenge


class Audits:
    """Results of golden samples in the history. Those that workers give are kept by the alert service, from its stream.

    Args:
        database: `storage.history.History.database`.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def results(
        self,
        *,
        line: str | None = None,
        since_ns: int | None = None,
        until_ns: int | None = None,
        missed: bool | None = None,
        limit: int = 1000,
    ) -> list[Challenge]:
        """List results, newest first.

        Args:
            line: of this line only.
            since_ns: shown at or after this, wall clock, nanoseconds since the epoch.
            until_ns: shown before this.
            missed: only those missed (True), only those not (False), all (None).
            limit: at most so many.

        Raises:
            StoreUnavailable: the database cannot be reached.
        """
        t = tables.challenges.c
        query = select(t.challenge).order_by(t.at_ns.desc(), t.id.desc()).limit(limit)
        if line is not None:
            query = query.where(t.line == line)
        if since_ns is not None:
            query = query.where(t.at_ns >= since_ns)
        if until_ns is not None:
            query = query.where(t.at_ns < until_ns)
        if missed is not None:
            query = query.where(t.missed == int(missed))
        with self._database.reading() as db:
            return [Challenge.model_validate_json(row) for row in db.scalars(query)]

    def keep(self, results: Sequence[Challenge]) -> None:
        """Keep results that went through no stream, all or none.

        Raises:
            StoreUnavailable: the database cannot be reached, is locked or read-only.
            StorageFull: no room.
        """
        rows = [
            {
                "id": f"direct:{uuid.uuid4().hex}",  # an entry of a stream is named `number-number`
                "line": result.line,
                "at_ns": result.at_ns,
                "missed": int(result.missed),
                "challenge": result.model_dump_json(),
            }
            for result in results
        ]
        if rows:
            with self._database.writing() as db:
                db.execute(insert(tables.challenges), rows)
