"""What was it? Three answers to a defect alert; the one that was given stays pressed, another takes its place."""

from collections.abc import Callable
from functools import partial

from nicegui import ui

from alerts.pages.moment import LABELS
from storage.records import Label


class LabelBar:
    """The buttons of one alert."""

    def __init__(self, choose: Callable[[Label], object]) -> None:
        self._buttons: dict[Label, ui.button] = {}
        with ui.element("div").classes("lw-labels").props('role="group" aria-label="What was it?"'):
            for label, shown in LABELS.items():
                button = ui.button(shown.word, icon=shown.icon, color=None, on_click=partial(choose, label))
                button.props("flat no-caps dense").classes("lw-label").props["data-tone"] = shown.tone
                self._buttons[label] = button
        self.update(None)

    def update(self, chosen: Label | None) -> None:
        """Press the button of the label that counts."""
        for label, button in self._buttons.items():
            button.props["aria-pressed"] = "true" if label is chosen else "false"
