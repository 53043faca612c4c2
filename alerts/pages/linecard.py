"""One line as a card: how it is doing, its latest picture, its scores, its counters."""

from dataclasses import dataclass

from nicegui import ui

from alerts.board import LineView
from alerts.pages.moment import mood
from alerts.pages.sparkline import sparkline

_COUNTERS = {
    "captured": "captured",
    "passed": "good",
    "rejected": "rejects",
    "unknown": "unknown",
    "skipped": "skipped",
    "open": "in flight",
}
_RARE = ("skipped",)  # shown only where there is something to say


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture to show: its address, which changes with its content."""

    src: str


class LineCard:
    """The card of one line; built once, updated in place."""

    def __init__(self, line: str) -> None:
        self._shown: object = None
        with ui.element("article").classes("lw-card").props(f'data-line="{line}"') as self._card:
            with ui.element("header").classes("lw-card-head"):
                ui.label(line).classes("lw-line").props(f'title="{line}"')
                with ui.element("span").classes("lw-pill") as self._pill:
                    self._icon = ui.icon("hourglass_empty")
                    self._word = ui.label("Waiting")
            with ui.element("div").classes("lw-frame"):
                self._picture = ui.element("img").props(f'alt="Latest picture of {line}"')
                with ui.element("div").classes("lw-nothing") as self._nothing:
                    ui.icon("photo_camera")
                    ui.label("no picture yet")
            self._chart = ui.html("", sanitize=False).classes("lw-chart")  # numbers only, see sparkline
            with ui.element("div").classes("lw-model"):
                self._score, self._model = ui.label(""), ui.label("")
            with ui.element("dl").classes("lw-counters"):
                self._counts = {name: _counter(word) for name, word in _COUNTERS.items()}

    def update(self, view: LineView, picture: Picture | None) -> None:
        """Show this moment."""
        if self._shown == (view, picture):
            return
        self._shown = (view, picture)
        state, shown = view.state, mood(view)
        self._card.props["data-tone"] = shown.tone
        self._icon.set_name(shown.icon)
        self._word.set_text(shown.word)
        self._picture.set_visibility(picture is not None)
        self._nothing.set_visibility(picture is None)
        if picture is not None:
            self._picture.props["src"] = picture.src
        self._chart.set_content(sparkline(view.trend))
        score = "no score" if state.score is None else f"score {state.score:.3g}"
        limit = "" if state.threshold is None else f" · threshold {state.threshold:.3g}"
        self._score.set_text(score + limit)
        self._model.set_text(state.model or "")
        for name, (box, label) in self._counts.items():
            value = getattr(state, name)
            label.set_text(f"{value:,}".replace(",", "\u202f"))
            box.set_visibility(value > 0 or name not in _RARE)
            box.props["data-count"] = "some" if value else "none"


def _counter(word: str) -> tuple[ui.element, ui.label]:
    with ui.element("div").props(f'data-counter="{word}"') as box:
        with ui.element("dt"):
            ui.label(word)
        with ui.element("dd"):
            value = ui.label("0")
    return box, value
