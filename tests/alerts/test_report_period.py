"""When shifts begin and end, and stretches of time counted once."""

from datetime import UTC, datetime, time, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerts.report.period import MINUTE_NS, NS, Period, at, choose, cut, read_time, shift_ago, to_ns
from alerts.report.spans import length, merged
from alerts.report.wording import Clock, duration, elapsed, percent, ppm

BERLIN = ZoneInfo("Europe/Berlin")
ZONES = [UTC, BERLIN, ZoneInfo("America/New_York"), ZoneInfo("Australia/Lord_Howe"), ZoneInfo("Asia/Kathmandu")]
USUAL = (time(6), time(14), time(22))
# Around both changes of the clock, in each zone.
MOMENTS = st.one_of(
    st.integers(1_774_000_000, 1_776_000_000), st.integers(1_792_000_000, 1_794_500_000), st.integers(10**9, 2 * 10**9)
)
TIMES = st.lists(st.builds(time, st.integers(0, 23), st.sampled_from([0, 15, 30, 59])), max_size=4).map(tuple)


def ns(text: str, zone: ZoneInfo = BERLIN) -> int:
    return to_ns(datetime.fromisoformat(text), zone)


def local(period: Period, zone: ZoneInfo = BERLIN) -> tuple[str, str]:
    return at(period.begin_ns, zone).isoformat(), at(period.planned_ns or period.end_ns, zone).isoformat()


@given(
    st.lists(st.tuples(st.integers(-5, 60), st.integers(-5, 60)), max_size=12),
    st.tuples(st.integers(0, 50), st.integers(0, 50)),
)
def test_merged_spans_cover_what_the_spans_cover(spans: list[tuple[int, int]], within: tuple[int, int]) -> None:
    joined = merged(spans, within=within)
    seconds = {s for begin, end in spans for s in range(begin, end) if within[0] <= s < within[1]}
    assert {s for begin, end in joined for s in range(begin, end)} == seconds
    assert length(joined) == len(seconds)
    assert all(before[1] < after[0] for before, after in pairwise(joined))


@given(MOMENTS, TIMES, st.sampled_from(ZONES), st.integers(0, 9))
def test_shifts_follow_each_other_without_a_gap(now: int, shifts: tuple[time, ...], zone: ZoneInfo, back: int) -> None:
    now_ns = now * NS
    current = shift_ago(0, now_ns=now_ns, shifts=shifts, zone=zone)
    assert current.begin_ns <= now_ns < (current.planned_ns or 0)
    later = shift_ago(back, now_ns=now_ns, shifts=shifts, zone=zone)
    earlier = shift_ago(back + 1, now_ns=now_ns, shifts=shifts, zone=zone)
    assert earlier.end_ns == later.begin_ns
    assert earlier.planned_ns is None
    assert 0 < earlier.seconds <= 25.5 * 3600


@given(MOMENTS, TIMES, st.sampled_from(ZONES))
def test_a_shift_begins_where_a_clock_on_the_wall_says_so(now: int, shifts: tuple[time, ...], zone: ZoneInfo) -> None:
    """Against going through all minutes; times that the clock skips are in a test of their own."""
    wanted = set(shifts) or {time()}
    day = datetime.fromtimestamp(now, UTC).astimezone(zone).date()
    days = [day + timedelta(days=n) for n in (-2, -1, 0, 1)]
    walls = [datetime.combine(d, t).replace(tzinfo=zone) for d in days for t in wanted]
    if any(wall.astimezone(UTC).astimezone(zone).replace(tzinfo=None) != wall.replace(tzinfo=None) for wall in walls):
        return
    minute = now // 60
    while True:
        wall = datetime.fromtimestamp(minute * 60, UTC).astimezone(zone)
        if wall.fold == 0 and wall.time().replace(tzinfo=None, fold=0) in wanted:
            break
        minute -= 1
    assert shift_ago(0, now_ns=now * NS, shifts=shifts, zone=zone).begin_ns == minute * MINUTE_NS


def test_the_last_shift_may_have_begun_yesterday() -> None:
    period = shift_ago(1, now_ns=ns("2026-06-10T08:30"), shifts=USUAL, zone=BERLIN)
    assert local(period) == ("2026-06-09T22:00:00+02:00", "2026-06-10T06:00:00+02:00")
    assert period.planned_ns is None
    assert Clock(period, BERLIN).stretch == "Tuesday 9 June 2026 22:00 to Wednesday 10 June 2026 06:00"


@pytest.mark.parametrize(("day", "hours"), [("2026-03-29", 7), ("2026-10-25", 9), ("2026-06-10", 8)])
def test_the_night_the_clock_is_changed_is_longer_or_shorter(day: str, hours: int) -> None:
    period = shift_ago(1, now_ns=ns(f"{day}T09:00"), shifts=USUAL, zone=BERLIN)
    assert period.seconds == hours * 3600
    assert len(period.minutes) == hours * 60
    changed = hours != 8
    clock = Clock(period, BERLIN)
    assert (", then " in clock.zone_name) == changed
    assert clock.time(period.end_ns - NS).endswith("05:59:59" + (f" {at(period.end_ns, BERLIN).tzname()}" * changed))
    assert clock.zone_name.startswith("Europe/Berlin, CE")


def test_a_beginning_that_the_clock_skips_comes_as_much_later_and_one_that_comes_twice_at_first() -> None:
    spring = shift_ago(0, now_ns=ns("2026-03-29T12:00"), shifts=(time(2, 30),), zone=BERLIN)
    assert local(spring) == ("2026-03-29T03:30:00+02:00", "2026-03-30T02:30:00+02:00")
    autumn = shift_ago(0, now_ns=ns("2026-10-25T12:00"), shifts=(time(2, 30),), zone=BERLIN)
    assert local(autumn) == ("2026-10-25T02:30:00+02:00", "2026-10-26T02:30:00+01:00")


def test_a_running_shift_ends_now_so_far() -> None:
    now_ns = ns("2026-06-10T08:30:12.5")
    period = choose("current", None, None, now_ns=now_ns, shifts=USUAL, zone=BERLIN)
    assert period == Period(ns("2026-06-10T06:00"), now_ns, ns("2026-06-10T14:00"), is_shift=True)
    assert period.minutes[-1] == now_ns // MINUTE_NS


def test_a_time_is_a_time_or_so_long_ago() -> None:
    now_ns = ns("2026-06-10T08:30:12")
    assert choose(None, "8h", None, now_ns=now_ns, shifts=USUAL) == Period(ns("2026-06-10T00:30"), now_ns)
    given_both = choose(None, "2026-06-10T06:00:30", "2026-06-10T07:00+02:00", now_ns=now_ns, shifts=(), zone=BERLIN)
    assert given_both == Period(ns("2026-06-10T06:00"), ns("2026-06-10T07:00"))
    ahead = choose(None, "1h", "2026-06-10T23:00", now_ns=now_ns, shifts=(), zone=BERLIN)
    assert (ahead.end_ns, ahead.planned_ns) == (now_ns, ns("2026-06-10T23:00"))
    assert read_time("2026-06-10", now_ns=0, zone=BERLIN) == ns("2026-06-10T00:00")


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (("yesterday", None, None), "last, current, or 3-ago"),
        (("-1-ago", None, None), "last, current, or 3-ago"),
        (("999999-ago", None, None), "last, current, or 3-ago"),
        ((None, "1970-01-01", None), "longer than 400 days"),
        (("last", "8h", None), "give one"),
        ((None, None, "8h"), "give `since` too"),
        ((None, "8", None), "is no time"),
        ((None, "soon", None), "is no time"),
        ((None, "1h", "2h"), "ends before it begins"),
        ((None, "2126-06-10", None), "ends before"),
        ((None, "2126-06-10", "2126-06-11"), "has not begun"),
        ((None, "9999999999d", None), "is no time"),
    ],
)
def test_what_is_no_time_is_said(asked: tuple[str | None, str | None, str | None], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        choose(*asked, now_ns=ns("2026-06-10T08:30"), shifts=USUAL, zone=BERLIN)


@given(MOMENTS, st.integers(1, 5 * 24 * 60), TIMES, st.sampled_from(ZONES))
def test_pieces_make_up_the_whole_and_are_cut_at_shifts(
    begin: int, minutes: int, shifts: tuple[time, ...], zone: ZoneInfo
) -> None:
    whole = Period(begin // 60 * MINUTE_NS, (begin // 60 + minutes) * MINUTE_NS)
    pieces = cut(whole, shifts=shifts, zone=zone)
    assert (pieces[0].begin_ns, pieces[-1].end_ns) == (whole.begin_ns, whole.end_ns)
    assert all(before.end_ns == after.begin_ns for before, after in pairwise(pieces))
    for piece in pieces:
        shift = shift_ago(0, now_ns=piece.begin_ns, shifts=shifts, zone=zone)
        end_ns = shift.planned_ns or 0
        assert piece.end_ns == min(end_ns, whole.end_ns)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0, "0.0 s"), (9.96, "10 s"), (59.7, "1 min"), (200, "3 min 20 s"), (3599.6, "1 h"), (7500, "2 h 5 min")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_numbers_are_not_rounded_to_none_or_all() -> None:
    assert [percent(share) for share in (0.0, 1e-9, 0.0312, 0.99999, 1.0)] == [
        "0 %", "< 0.01 %", "3.12 %", "> 99.9 %", "100 %"
    ]  # fmt: skip
    assert [ppm(value) for value in (0.0, 0.04, 3.14, 2893.2)] == ["0", "0.04", "3.1", "2,893"]
    assert elapsed(83_460_000_000) == "0:01:23.4"
