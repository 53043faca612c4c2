"""How a line is doing, in one word, one colour and one icon: never by colour alone."""

from dataclasses import dataclass

from alerts.board import LineView
from storage.records import AlertKind, Label, Status


@dataclass(frozen=True, slots=True)
class Mood:
    """How something is shown.

    Attributes:
        word: the state in a word or two.
        tone: good, bad, warn or idle: the colour.
        icon: name in the Material icon font.
    """

    word: str
    tone: str
    icon: str


KINDS = {
    AlertKind.LINE_SILENT: Mood("Line silent", "bad", "sensors_off"),
    AlertKind.CAMERA_LOST: Mood("Camera lost", "bad", "videocam_off"),
    AlertKind.CAMERA_FROZEN: Mood("Camera frozen", "bad", "ac_unit"),
    AlertKind.CAMERA_DARK: Mood("Camera dark", "bad", "dark_mode"),
    AlertKind.CAMERA_MOVED: Mood("Camera moved", "bad", "open_with"),
    AlertKind.CAMERA_OCCLUDED: Mood("View blocked", "bad", "visibility_off"),
    AlertKind.CAMERA_BLURRED: Mood("Picture blurred", "bad", "blur_on"),
    AlertKind.CAMERA_OVEREXPOSED: Mood("Over-exposed", "bad", "light_mode"),
    AlertKind.CAMERA_LIGHT: Mood("Light changed", "bad", "brightness_medium"),
    AlertKind.GOLDEN_MISSED: Mood("Golden sample missed", "bad", "rule"),
    AlertKind.DEFECT: Mood("Defect", "bad", "report"),
    AlertKind.UNKNOWN_STREAK: Mood("Not inspected", "warn", "help"),
    AlertKind.DRIFT: Mood("Scores drift", "warn", "trending_up"),
}
"""Kinds of alerts, the ones that hide the others first."""

LABELS = {
    Label.TRUE_DEFECT: Mood("True defect", "bad", "report"),
    Label.FALSE_ALARM: Mood("False alarm", "good", "notifications_off"),
    Label.KNOWN_VARIATION: Mood("Known variation", "good", "fact_check"),
}
"""What an operator may say of a defect alert."""

_STATUS = {
    Status.PASS: Mood("Good", "good", "check_circle"),
    Status.REJECT: Mood("Reject", "bad", "cancel"),
    Status.UNKNOWN: Mood("Unknown", "warn", "help"),
}
_WAITING = Mood("Waiting", "idle", "hourglass_empty")


def mood(view: LineView) -> Mood:
    """Say how a line is doing: its gravest open alert, or else its last verdict."""
    for kind, shown in KINDS.items():
        if kind in view.open:
            return shown
    return _WAITING if view.state.status is None else _STATUS[view.state.status]
