"""One alert as a row: its picture, what it says, the event it tells of, and what an operator says of it."""

from collections.abc import Callable
from datetime import datetime

from nicegui import ui

from alerts.pages.labelbar import LabelBar
from alerts.pages.linecard import Picture
from alerts.pages.moment import KINDS, LABELS
from storage.records import Alert, AlertKind, Label


class AlertRow:
    """The row of one alert; built once, updated in place.

    Args:
        alert: what it shows.
        acknowledge: called when somebody has seen it.
        label: called with what somebody says it was; only defects are asked about.
        acts: whether who looks may do either.
    """

    def __init__(
        self,
        alert: Alert,
        acknowledge: Callable[[], object],
        label: Callable[[Label], object],
        *,
        acts: bool = True,
    ) -> None:
        kind = KINDS[alert.kind]
        self._shown: object = None
        self._acts = acts
        with (
            ui.element("li").classes("lw-alert").props(f'data-alert="{alert.id}" data-tone="{kind.tone}"') as self._row
        ):
            with ui.element("div").classes("lw-thumb lw-nothing") as self._nothing:
                ui.icon(kind.icon)
            with ui.element("a").classes("lw-thumb").props('target="_blank"') as self._link:
                self._picture = ui.element("img").props('alt="Where the picture differs" loading="lazy"')
            with ui.element("div").classes("lw-alert-body"):
                with ui.element("div").classes("lw-alert-head"):
                    with ui.element("span").classes("lw-kind"):
                        ui.icon(kind.icon)
                        ui.label(kind.word)
                    ui.label(alert.line).classes("lw-alert-line")
                    self._count = ui.label("").classes("lw-count")
                    self._state = ui.label("").classes("lw-state")
                self._text = ui.label("").classes("lw-text")
                self._when = ui.label("").classes("lw-when")
                self._seen = ui.label("").classes("lw-when")
                self._button = ui.button("Acknowledge", on_click=acknowledge).props("unelevated no-caps dense")
            self._labels = LabelBar(label) if acts and alert.kind is AlertKind.DEFECT else None

    def update(self, alert: Alert, picture: Picture | None) -> None:
        """Show what became of it."""
        if self._shown == (alert, picture):
            return
        self._shown = (alert, picture)
        self._nothing.set_visibility(picture is None)
        self._link.set_visibility(picture is not None)
        if picture is not None:
            self._link.props["href"] = self._picture.props["src"] = picture.src
        still_open = alert.cleared_ns is None
        self._row.props["data-open"] = "yes" if still_open else "no"
        self._state.set_text("open" if still_open else "cleared")
        self._count.set_text(f"{alert.count}\N{MULTIPLICATION SIGN}")
        self._count.set_visibility(alert.count > 1)
        self._text.set_text(said(alert))
        self._when.set_text(when(alert))
        self._button.set_visibility(self._acts and alert.acknowledged_ns is None)
        self._seen.set_text(_seen(alert))
        self._seen.set_visibility(alert.acknowledged_ns is not None)
        if self._labels is not None:
            self._labels.update(alert.label)


def said(alert: Alert) -> str:
    """Give the text without its first words, which the row shows already; of rejects, the worst so far instead."""
    head, _, text = alert.text.partition(": ")
    worst, limit = alert.worst_score, alert.threshold
    if alert.kind is AlertKind.DEFECT and worst is not None and limit is not None and worst > limit:
        text = f"worst score {worst:.3g}, threshold {limit:.3g}"
    where = head.removeprefix("Defect").strip() if alert.kind is AlertKind.DEFECT else ""
    words = f"{where}: {text}" if where and text else text or alert.text
    return words[0].upper() + words[1:]


def _seen(alert: Alert) -> str:
    if alert.label is not None and alert.labelled_ns is not None:
        return f"{LABELS[alert.label].word.lower()}, says {alert.labelled_by}, {clock(alert.labelled_ns)}"
    return "" if alert.acknowledged_ns is None else f"seen by {alert.acknowledged_by}, {clock(alert.acknowledged_ns)}"


def when(alert: Alert) -> str:
    """When the event began and ended, or how long it has gone on so far."""
    began = alert.raised_ns if alert.started_ns is None else alert.started_ns
    if alert.cleared_ns is None:
        so_far = "" if alert.ended_ns is None else f", {span(alert.ended_ns - began)} so far"
        return f"since {clock(began)} · ongoing{so_far}"
    ended = alert.cleared_ns if alert.ended_ns is None else alert.ended_ns
    if ended == began:  # one part, one frame
        return clock(began)
    return f"{clock(began)} to {clock(ended)} · {span(ended - began)}"


def span(length_ns: int) -> str:
    """How long something took, for people."""
    seconds = length_ns / 1e9
    if seconds < 120:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def clock(wall_ns: int) -> str:
    """Time of day on this machine; with the date when it is not today."""
    then = datetime.fromtimestamp(wall_ns / 1e9).astimezone()
    today = then.date() == datetime.now().astimezone().date()
    return then.strftime("%H:%M:%S" if today else "%d %b %H:%M:%S")
