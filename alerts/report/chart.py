"""Verdicts over time as a small SVG: good, rejected and not inspected stacked, a mark where an alert was raised.

Told apart without colour: light, dark and hatched. Whatever is not nothing is drawn, if only as a thin stroke: one
reject among ten thousand good parts is what somebody looks for.
"""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

from markupsafe import Markup, escape

from alerts.report.contents import LineReport, add
from alerts.report.period import NS, at, to_ns
from alerts.report.wording import Clock, elapsed
from storage.history import Counts
from storage.records import AlertKind

WIDTH, HEIGHT = 720, 150
_LEFT, _RIGHT, _TOP, _FOOT = 44, 8, 16, 20
_MOST_BINS = 96
_MOST_TICKS = 9
_THINNEST = 1.5
_GROUPS = (1, 2, 5, 10, 15, 30, 60, 120, 180, 240, 360, 720, 1440)
_STEPS_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 14400, 21600, 43200, 86400, 172800)
_WEEK_S = 604_800


def chart(line: LineReport, clock: Clock, *, name: str) -> Markup:
    """Draw one line's period.

    Args:
        line: its verdicts and alerts.
        clock: writes its times.
        name: of this chart among those of the page, for references inside it.
    """
    begin_ns, end_ns = clock.period.begin_ns, clock.period.planned_ns or clock.period.end_ns
    scale = (WIDTH - _LEFT - _RIGHT) / (end_ns - begin_ns)

    def x(wall_ns: int) -> float:
        return _LEFT + min(max(wall_ns - begin_ns, 0), end_ns - begin_ns) * scale

    width_ns, bins = _binned(line, begin_ns, end_ns)
    most = max((_total(counts) for counts in bins.values()), default=0)
    parts = [_hatch(name), *_axes(clock, most, x)]
    for start_ns, counts in bins.items():
        left, right = x(start_ns), x(start_ns + width_ns)
        parts += _bar(left, max(right - left, 0.6), counts, most, name)
    parts += _marks(line, x, begin_ns, end_ns)
    seconds = width_ns / NS
    per = f"{seconds / 60:g} min" if seconds >= 60 else f"{seconds:g} s"
    label = escape(f"Verdicts of {line.line} per {per}, at most {most}; a mark where an alert was raised")
    return Markup(  # noqa: S704 - numbers and what has been escaped
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">{"".join(parts)}</svg>'
        f"<figcaption>Verdicts per {per}: <i class=good></i> pass <i class=bad></i> reject "
        "<i class=none></i> not inspected &ensp; &#9660; event &ensp; &#9661; other alert</figcaption>"
    )


def _binned(line: LineReport, begin_ns: int, end_ns: int) -> tuple[int, dict[int, Counts]]:
    """Gather bins into few enough to be told apart: width, and begin -> verdicts."""
    bin_ns = line.timeline.bin_ns
    first = begin_ns // bin_ns
    count = max(1, -(-end_ns // bin_ns) - first)
    group = next((g for g in _GROUPS if count <= g * _MOST_BINS), -(-count // _MOST_BINS))
    gathered: dict[int, list[Counts]] = {}
    for number, counts in sorted(line.timeline.counts.items()):
        gathered.setdefault((number - first) // group, []).append(counts)
    return group * bin_ns, {(first + place * group) * bin_ns: add(counts) for place, counts in gathered.items()}


def _bar(left: float, width: float, counts: Counts, most: int, name: str) -> Iterator[str]:
    foot: float = HEIGHT - _FOOT
    room = foot - _TOP
    for fill, count in (
        ("#cfd8d3", counts.passed),
        ("#8b1a1a", counts.rejected),
        (f"url(#{name}-hatch)", counts.unknown),
    ):
        if count:
            height = max(count / most * room, _THINNEST)
            foot -= height
            where = f'x="{left:.1f}" y="{foot:.1f}" width="{width:.1f}" height="{height:.1f}"'
            yield f'<rect {where} fill="{fill}" shape-rendering="crispEdges"/>'


def _marks(line: LineReport, x: Callable[[int], float], begin_ns: int, end_ns: int) -> Iterator[str]:
    """One mark for all alerts of a sort at one place."""
    seen: set[tuple[int, bool]] = set()
    for alert in line.alerts:
        event = alert.kind is AlertKind.DEFECT
        place = round(x(alert.raised_ns))
        if begin_ns <= alert.raised_ns < end_ns and (place, event) not in seen:
            seen.add((place, event))
            look = 'fill="#000"' if event else 'fill="#fff" stroke="#000"'
            yield f'<path d="M{place - 4} {2 if event else 3}h8l-4 8z" {look}/>'


def _axes(clock: Clock, most: int, x: Callable[[int], float]) -> Iterator[str]:
    foot = HEIGHT - _FOOT
    yield f'<path d="M{_LEFT} {_TOP}V{foot}H{WIDTH - _RIGHT}" fill="none" stroke="#555"/>'
    yield f'<text x="{_LEFT - 5}" y="{_TOP + 4}" text-anchor="end">{most:,}</text>'
    yield f'<text x="{_LEFT - 5}" y="{foot}" text-anchor="end">0</text>'
    for tick_ns, text in _ticks(clock):
        place = x(tick_ns)
        anchor = "start" if place < _LEFT + 14 else "end" if place > WIDTH - 22 else "middle"
        yield f'<path d="M{place:.1f} {foot}v4" stroke="#555"/>'
        yield f'<text x="{place:.1f}" y="{HEIGHT - 4}" text-anchor="{anchor}">{escape(text)}</text>'


def _ticks(clock: Clock) -> Iterator[tuple[int, str]]:
    """Round times of the local clock, also where it was changed."""
    begin_ns, end_ns = clock.period.begin_ns, clock.period.planned_ns or clock.period.end_ns
    long_s = (end_ns - begin_ns) / NS
    step_s = next(
        (s for s in _STEPS_S if long_s <= s * _MOST_TICKS), _WEEK_S * -(-int(long_s) // (_WEEK_S * _MOST_TICKS))
    )
    if clock.elapsed:
        yield from ((ns, elapsed(ns - begin_ns)) for ns in range(begin_ns, end_ns + 1, step_s * NS))
        return
    for tick_ns in sorted(set(_round_walls(clock, begin_ns, long_s, step_s))):
        if begin_ns <= tick_ns <= end_ns:
            local = at(tick_ns, clock.zone)
            day = long_s > 86400 + 3600 and (local.hour, local.minute) == (0, 0)
            yield tick_ns, f"{local.day} {local:%b}" if day else local.strftime("%H:%M:%S" if step_s < 60 else "%H:%M")


def _round_walls(clock: Clock, begin_ns: int, long_s: float, step_s: int) -> Iterator[int]:
    """Times at which a clock on the wall shows a multiple of the step since midnight: none, one or two for each."""
    wall = at(begin_ns, clock.zone).replace(tzinfo=None)
    midnight = datetime.combine(wall.date(), datetime.min.time())
    first = int((wall - midnight).total_seconds()) // step_s
    for number in range(first, first + int((long_s + 7200) // step_s) + 2):  # clocks are changed by 2 h at most
        shown = midnight + timedelta(seconds=number * step_s)
        for fold in (0, 1):
            tick_ns = to_ns(shown.replace(fold=fold), clock.zone)
            if at(tick_ns, clock.zone).replace(tzinfo=None, fold=0) == shown:
                yield tick_ns


def _hatch(name: str) -> str:
    return (
        f'<defs><pattern id="{name}-hatch" width="4" height="4" patternUnits="userSpaceOnUse" '
        'patternTransform="rotate(45)"><rect width="4" height="4" fill="#fff"/>'
        '<rect width="1.6" height="4" fill="#333"/></pattern></defs>'
    )


def _total(counts: Counts) -> int:
    return counts.passed + counts.rejected + counts.unknown
