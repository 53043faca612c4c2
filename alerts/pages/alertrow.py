"""One alert as a row: its picture, what it says, when, how often, and the button that says it was seen."""

from collections.abc import Callable
from datetime import datetime

from nicegui import ui

from alerts.pages.linecard import Picture
from alerts.pages.moment import KINDS
from storage.records import Alert


class AlertRow:
    """The row of one alert; built once, updated in place."""

    def __init__(self, alert: Alert, picture: Picture | None, acknowledge: Callable[[], object]) -> None:
        kind = KINDS[alert.kind]
        self._shown: Alert | None = None
        with (
            ui.element("li").classes("lw-alert").props(f'data-alert="{alert.id}" data-tone="{kind.tone}"') as self._row
        ):
            if picture is None:
                with ui.element("div").classes("lw-thumb lw-nothing"):
                    ui.icon(kind.icon)
            else:
                with ui.element("a").classes("lw-thumb").props(f'href="{picture.src}" target="_blank"'):
                    ui.element("img").props(f'src="{picture.src}" alt="Where the picture differs" loading="lazy"')
            with ui.element("div").classes("lw-alert-body"):
                with ui.element("div").classes("lw-alert-head"):
                    with ui.element("span").classes("lw-kind"):
                        ui.icon(kind.icon)
                        ui.label(kind.word)
                    ui.label(alert.line).classes("lw-alert-line")
                    self._count = ui.label("").classes("lw-count")
                ui.label(_said(alert)).classes("lw-text")
                self._when = ui.label("").classes("lw-when")
            with ui.element("div").classes("lw-alert-side"):
                self._state = ui.label("").classes("lw-state")
                self._button = ui.button("Acknowledge", on_click=acknowledge).props("unelevated no-caps dense")
                self._seen = ui.label("").classes("lw-seen")
        self.update(alert)

    def update(self, alert: Alert) -> None:
        """Show what became of it."""
        if self._shown == alert:
            return
        self._shown = alert
        still_open = alert.cleared_ns is None
        self._row.props["data-open"] = "yes" if still_open else "no"
        self._state.set_text("open" if still_open else "cleared")
        self._count.set_text(f"{alert.count}\N{MULTIPLICATION SIGN}")
        self._count.set_visibility(alert.count > 1)
        self._when.set_text(_when(alert))
        acknowledged = alert.acknowledged_ns is not None
        self._button.set_visibility(not acknowledged)
        self._seen.set_visibility(acknowledged)
        if alert.acknowledged_ns is not None:
            self._seen.set_text(f"seen by {alert.acknowledged_by}, {clock(alert.acknowledged_ns)}")


def _said(alert: Alert) -> str:
    """Give the text without its first word or two, which the row shows already."""
    said = alert.text.partition(": ")[2] or alert.text
    return said[0].upper() + said[1:]


def _when(alert: Alert) -> str:
    if alert.cleared_ns is None:
        return f"since {clock(alert.raised_ns)}"
    lasted = (alert.cleared_ns - alert.raised_ns) / 1e9
    return f"{clock(alert.raised_ns)} · lasted {_span(lasted)}"


def _span(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def clock(wall_ns: int) -> str:
    """Time of day on this machine; with the date when it is not today."""
    then = datetime.fromtimestamp(wall_ns / 1e9).astimezone()
    today = then.date() == datetime.now().astimezone().date()
    return then.strftime("%H:%M:%S" if today else "%d %b %H:%M:%S")
