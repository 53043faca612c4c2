"""A line's past as the history has it, gathered for `alerts.feedback`."""

from alerts.feedback import Record
from storage.history import Counts, History
from storage.labels import Labels

_MINUTE_NS = 60 * 1_000_000_000


def look_back(history: History, line: str, *, since_ns: int, until_ns: int, alike: float = 1.0) -> Record:
    """Gather what is known of a line between two times; verdicts are counted by whole minutes.

    Args:
        history: of the site.
        line: its name.
        since_ns: wall clock, nanoseconds since the epoch; its minute is counted.
        until_ns: the same; its minute is counted too.
        alike: see `alerts.feedback.Record`.

    Raises:
        StorageError: the history cannot be read.
    """
    labels = Labels(history)
    minutes = history.minutes(line, since=since_ns // _MINUTE_NS, until=until_ns // _MINUTE_NS + 1).values()
    return Record(
        counts=Counts(
            passed=sum(minute.passed for minute in minutes),
            rejected=sum(minute.rejected for minute in minutes),
            unknown=sum(minute.unknown for minute in minutes),
        ),
        alerts=labels.defects(line, since_ns=since_ns, until_ns=until_ns),
        escapes=len(labels.escapes(line, since_ns=since_ns, until_ns=until_ns)),
        alike=alike,
    )
