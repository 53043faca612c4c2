"""How times, durations and numbers are written for people."""

from dataclasses import dataclass
from datetime import tzinfo

from alerts.report.period import NS, Period, at
from storage.records import Label

LABELS = {
    Label.TRUE_DEFECT: "true defect",
    Label.FALSE_ALARM: "false alarm",
    Label.KNOWN_VARIATION: "known variation",
}


@dataclass(frozen=True, slots=True)
class Clock:
    """Writes the times of one report.

    Attributes:
        period: of the report.
        zone: where times are local; None: this machine's.
        elapsed: times are shown since the beginning of the period.
    """

    period: Period
    zone: tzinfo | None = None
    elapsed: bool = False

    def time(self, wall_ns: int) -> str:
        """`07:12:33`, with the day where the period has several, with the zone where the clock was changed."""
        if self.elapsed:
            return elapsed(wall_ns - self.period.begin_ns)
        local = at(wall_ns, self.zone)
        text = local.strftime("%H:%M:%S")
        if local.date() != at(self.period.begin_ns, self.zone).date() or self._several_days:
            text = f"{local.day} {local:%b} {text}"
        return f"{text} {local.tzname()}" if self._clock_changed else text

    def iso(self, wall_ns: int) -> str:
        """ISO 8601 with offset, to the second."""
        return at(wall_ns, self.zone).isoformat(timespec="seconds")

    def day(self, wall_ns: int) -> str:
        """`Thursday 26 November 2026`."""
        local = at(wall_ns, self.zone)
        return f"{local:%A} {local.day} {local:%B %Y}"

    def moment(self, wall_ns: int) -> str:
        """`26 Nov 2026 07:12`."""
        local = at(wall_ns, self.zone)
        return f"{local.day} {local:%b %Y %H:%M}"

    @property
    def stretch(self) -> str:
        """The period in words."""
        last_ns = self.period.planned_ns or self.period.end_ns
        if self.elapsed:
            return f"recording of {duration(self.period.seconds)}"
        begin, end = at(self.period.begin_ns, self.zone), at(last_ns, self.zone)
        if begin.date() == end.date():
            return f"{self.day(self.period.begin_ns)}, {begin:%H:%M} to {end:%H:%M}"
        return f"{self.day(self.period.begin_ns)} {begin:%H:%M} to {self.day(last_ns)} {end:%H:%M}"

    @property
    def zone_name(self) -> str:
        """`CET (UTC+01:00)`; both where the clock was changed in between."""
        ends = (at(ns, self.zone) for ns in (self.period.begin_ns, self.period.end_ns))
        names = dict.fromkeys(
            "UTC" if end.tzname() == "UTC" else f"{end.tzname()} (UTC{end.isoformat()[-6:]})" for end in ends
        )
        key = getattr(self.zone, "key", None)
        text = ", then ".join(names)
        return text if key is None or key == at(self.period.begin_ns, self.zone).tzname() else f"{key}, {text}"

    @property
    def _clock_changed(self) -> bool:
        begin, end = at(self.period.begin_ns, self.zone), at(self.period.end_ns, self.zone)
        return begin.utcoffset() != end.utcoffset()

    @property
    def _several_days(self) -> bool:
        return self.period.seconds > 24 * 3600 + 3600  # a day on which the clock is set back is one


def elapsed(ns: int) -> str:
    """`0:01:23.4`."""
    tenths = max(0, ns) * 10 // NS
    return f"{tenths // 36000}:{tenths // 600 % 60:02}:{tenths % 600 / 10:04.1f}"


def duration(seconds: float | None) -> str:
    """`4.2 s`, `3 min 20 s`, `1 h 5 min`; a dash for None."""
    if seconds is None:
        return "–"  # noqa: RUF001 - typography
    if seconds < 59.5:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s" if whole % 60 else f"{whole // 60} min"
    minutes = round(whole / 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes % 60 else f"{minutes // 60} h"


def number(value: float | None, digits: int = 3) -> str:
    """`12,345` for whole numbers, significant digits for others; a dash for None."""
    if value is None:
        return "–"  # noqa: RUF001 - typography
    return f"{value:,}" if isinstance(value, int) else f"{value:.{digits}g}"


def ppm(value: float | None) -> str:
    """Parts per million: `1,250`, `0.4`; a dash where nothing was judged."""
    if value is None:
        return "–"  # noqa: RUF001 - typography
    return f"{value:,.0f}" if value >= 10 or value == 0 else f"{value:.2g}"


def percent(share: float | None) -> str:
    """`0.31 %`, which is never rounded to none or to all."""
    if share is None:
        return "–"  # noqa: RUF001 - typography
    if 0 < share < 0.0001:
        return "< 0.01 %"
    text = f"{100 * share:.3g}"
    return "> 99.9 %" if text == "100" and share < 1 else f"{text} %"
