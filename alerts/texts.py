"""What an alert says to an operator: what is wrong, and what to do about it. One sentence, no jargon."""

from alerts.config import AlertRules
from storage.records import AlertKind, Verdict

_CAMERA = {
    AlertKind.CAMERA_FROZEN: "Camera frozen: it sends the same picture again and again. Restart the camera.",
    AlertKind.CAMERA_DARK: "Camera dark: no light, or a covered lens. Check lamp and lens.",
    AlertKind.CAMERA_LOST: "Camera lost: no connection. Check its cable and power.",
}


def defect_text(verdict: Verdict, rules: AlertRules) -> str:
    """Say by how much the score is too high, and how often."""
    rule = rules.raise_
    often = "" if rule.n == 1 else f" ({rule.k} of the last {rule.n} rejected)"
    return f"Defect: score {verdict.score:.3g} is above the threshold {verdict.threshold:.3g}{often}."


def unknown_text(verdict: Verdict, rules: AlertRules) -> str:
    """Say how many frames nobody looked at, and why the last of them."""
    return (
        f"Not inspected: {rules.unknown_streak} frames in a row have no verdict (last reason: {verdict.reason}). "
        "Look at the workers."
    )


def silent_text(after_s: float) -> str:
    """Say for how long nothing was heard."""
    return f"Line silent: no frame and no sign of life for {after_s:g} s. Check that capture runs."


def camera_text(kind: AlertKind) -> str:
    """Say what is wrong with the camera."""
    return _CAMERA[kind]
