"""Which stretch of time a report covers: shifts begin at local times of day, also on the day the clocks change."""

import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta, tzinfo

from alerts.config import seconds

NS = 1_000_000_000
MINUTE_NS = 60 * NS
LONGEST_DAYS = 400
"""A report covers at most this: a year, and what is compared with it."""
_DAYS_AROUND = 2  # a shift reaches into the day before, and clocks are changed by less than another


@dataclass(frozen=True, slots=True)
class Period:
    """From `begin_ns` to before `end_ns`, nanoseconds since the epoch.

    Attributes:
        begin_ns: on a whole minute, as verdicts are counted.
        end_ns: where what is known ends.
        planned_ns: when it will be over, if it is still going on; None: it is over.
        is_shift: whether it is one shift.
    """

    begin_ns: int
    end_ns: int
    planned_ns: int | None = None
    is_shift: bool = False

    @property
    def seconds(self) -> float:
        """How long it has lasted."""
        return (self.end_ns - self.begin_ns) / NS

    @property
    def minutes(self) -> range:
        """Minutes since the epoch that it touches."""
        return range(self.begin_ns // MINUTE_NS, -(-self.end_ns // MINUTE_NS))


def shift_ago(back: int, *, now_ns: int, shifts: Sequence[time], zone: tzinfo | None = None) -> Period:
    """Find a shift.

    Args:
        back: 0: the one going on, 1: the last that is over, and so on.
        now_ns: wall clock, nanoseconds since the epoch.
        shifts: local times of day at which shifts begin; none: at midnight. One that the clock skips in spring begins
            as much later, one that comes twice in autumn begins at the first.
        zone: where these times are local; None: this machine's.

    """
    today = at(now_ns, zone).date()
    per_day = max(1, len(set(shifts)))
    first = today - timedelta(days=back // per_day + _DAYS_AROUND)
    days = [first + timedelta(days=n) for n in range((today - first).days + _DAYS_AROUND + 1)]
    begins = sorted({to_ns(datetime.combine(day, t), zone) for day in days for t in shifts or (time(),)})
    place = bisect_right(begins, now_ns) - 1 - back
    return period(begins[place], begins[place + 1], now_ns=now_ns, is_shift=True)


def period(begin_ns: int, end_ns: int, *, now_ns: int, is_shift: bool = False) -> Period:
    """Round a stretch of time to whole minutes, and end it now if it is not over.

    Raises:
        ValueError: it ends before it begins, has not begun, or is longer than `LONGEST_DAYS`.
    """
    begin_ns -= begin_ns % MINUTE_NS
    last_ns = end_ns + -end_ns % MINUTE_NS
    if begin_ns >= last_ns:
        raise ValueError("it ends before it begins: give `since` a time before `until`")
    if begin_ns > now_ns:
        raise ValueError("it has not begun: give `since` a time in the past")
    if last_ns - begin_ns > LONGEST_DAYS * 86_400 * NS:
        raise ValueError(f"it is longer than {LONGEST_DAYS} days: ask for less")
    # One that begins this very moment has some length too: shares of it are taken.
    return Period(begin_ns, max(begin_ns + 1, min(last_ns, now_ns)), last_ns if end_ns > now_ns else None, is_shift)


def choose(
    shift: str | None,
    since: str | None,
    until: str | None,
    *,
    now_ns: int,
    shifts: Sequence[time],
    zone: tzinfo | None = None,
) -> Period:
    """Read what a person asks for.

    Args:
        shift: `last`, `current` or `3-ago`; None: the last one, if no time is given.
        since: instead of a shift, a time as `read_time` reads it.
        until: the same; None: now.
        now_ns: as for `shift_ago`, like the rest.
        shifts: as above.
        zone: as above.

    Raises:
        ValueError: what is wrong, in one line.
    """
    if since is None:
        if until is not None:
            raise ValueError("`until` says only when to end: give `since` too")
        return shift_ago(_back(shift or "last"), now_ns=now_ns, shifts=shifts, zone=zone)
    if shift is not None:
        raise ValueError("`shift` and `since` are two ways to say when: give one of them")
    end_ns = now_ns if until is None else read_time(until, now_ns=now_ns, zone=zone)
    return period(read_time(since, now_ns=now_ns, zone=zone), end_ns, now_ns=now_ns)


def _back(shift: str) -> int:
    named = {"current": 0, "last": 1}
    match = re.fullmatch(r"(\d{1,4})-ago", shift)
    if shift not in named and match is None:
        raise ValueError(f"shift {shift!r}: write last, current, or 3-ago")
    return named[shift] if match is None else int(match[1])


def cut(whole: Period, *, shifts: Sequence[time], zone: tzinfo | None = None) -> list[Period]:
    """Cut a period where shifts begin; its first and last piece may be parts of a shift."""
    days = range(-1, (at(whole.end_ns, zone).date() - at(whole.begin_ns, zone).date()).days + 2)
    first = at(whole.begin_ns, zone).date()
    begins = {
        to_ns(datetime.combine(first + timedelta(days=n), t), zone) // MINUTE_NS * MINUTE_NS
        for n in days
        for t in shifts or (time(),)
    }
    ends = [*sorted(b for b in begins if whole.begin_ns < b < whole.end_ns), whole.end_ns]
    pieces = [Period(begin, end) for begin, end in zip([whole.begin_ns, *ends], ends, strict=False)]
    return [*pieces[:-1], Period(pieces[-1].begin_ns, whole.end_ns, whole.planned_ns)]


def read_time(text: str, *, now_ns: int, zone: tzinfo | None = None) -> int:
    """Read `2026-03-29T06:00`, `2026-03-29T06:00+02:00` or `8h` (ago); nanoseconds since the epoch.

    Raises:
        ValueError: it is none of these.
    """
    try:
        if re.fullmatch(r"\s*\d+(\.\d+)?\s*(ms|s|min|m|h|d)\s*", text):
            read_ns = now_ns - round(seconds(text) * NS)
        else:
            read_ns = to_ns(datetime.fromisoformat(text), zone)
        at(read_ns, zone)
    except (ValueError, OverflowError, OSError) as error:  # what no calendar has raises any of them
        raise ValueError(f"{text!r} is no time: write 2026-03-29T06:00, or 8h for that long ago") from error
    return read_ns


def at(wall_ns: int, zone: tzinfo | None) -> datetime:
    """Local time, aware; None: this machine's zone."""
    # Whole microseconds, not a float's: 13:59:59.9999999 must not become 14:00:00.
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=wall_ns // 1000)).astimezone(zone)


def to_ns(local: datetime, zone: tzinfo | None) -> int:
    """Nanoseconds since the epoch of a local time; one with an offset of its own keeps it."""
    if local.tzinfo is None:
        local = local.astimezone() if zone is None else local.replace(tzinfo=zone)
    return (local - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) * 1000
