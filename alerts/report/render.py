"""From a report to one HTML page that needs nothing else: for a screen, a phone and A4."""

from collections.abc import Iterator
from datetime import tzinfo
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from alerts.pages.moment import KINDS
from alerts.report import wording
from alerts.report.chart import chart
from alerts.report.contents import LineReport, Report
from alerts.report.downtime import downtime
from alerts.report.figures import duration_s, figures, worst, worst_score
from alerts.report.pictures import Pictures
from storage.records import Held

WORST = 12
"""Events shown with their picture."""
_HERE = Path(__file__).parent


def render(
    report: Report, *, zone: tzinfo | None = None, pictures: Pictures = lambda _: None, count: int = WORST
) -> str:
    """Write a report as HTML.

    Args:
        report: what it says.
        zone: where times are local; None: this machine's.
        pictures: folder of an event's evidence -> address of its picture: `data:…` makes a page that stands alone.
        count: how many of the worst events are shown with one.

    Returns:
        The page. Names, notes and texts in it are escaped.
    """
    clock = wording.Clock(report.period, zone, report.elapsed)
    shown = {alert.id for alert in worst(list(report.lines), count)}
    return _template().render(
        report=report,
        clock=clock,
        css=Markup((_HERE / "report.css").read_text(encoding="utf-8")),  # noqa: S704 - our own
        total=figures(report.period, *report.lines),
        lines=[_line(report, line, clock, number) for number, line in enumerate(report.lines)],
        shown=shown,
        pictures=pictures,
        kinds={kind: mood.word for kind, mood in KINDS.items()},
        labels=wording.LABELS,
        worst_score=worst_score,
        duration_s=duration_s,
    )


@cache
def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "duration": wording.duration,
        "number": wording.number,
        "ppm": wording.ppm,
        "percent": wording.percent,
    }
    return environment.get_template("report.html.j2")


def _line(report: Report, line: LineReport, clock: wording.Clock, number: int) -> dict[str, object]:
    return {
        "about": line,
        "figures": figures(report.period, line),
        "downtime": downtime(line.alerts, report.period),
        "chart": chart(line, clock, name=f"chart-{number}"),
        "held": list(_in_force(line, report.period.begin_ns)),
        "missed": [challenge for challenge in line.challenges if challenge.missed],
        "anchor": f"line-{number}",
    }


def _in_force(line: LineReport, begin_ns: int) -> Iterator[tuple[Held, bool]]:
    """Each model and threshold, and whether it was in force already when the period began."""
    return ((held, held.since_ns <= begin_ns) for held in line.held)
