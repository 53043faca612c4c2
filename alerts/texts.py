"""What an alert says to an operator: what is wrong, and what to do about it. A sentence or two, no jargon."""

from collections.abc import Sequence

from alerts.config import AlertRules
from alerts.golden import Shown
from storage.records import AlertKind, Region, Verdict

_CAMERA = {
    AlertKind.CAMERA_FROZEN: "Camera frozen: it sends the same picture again and again. Restart the camera.",
    AlertKind.CAMERA_DARK: "Camera dark: no light, or a covered lens. Check lamp and lens.",
    AlertKind.CAMERA_LOST: "Camera lost: no connection. Check its cable and power.",
    AlertKind.CAMERA_OVEREXPOSED: "Over-exposed: much of the picture is white. Check lamp, sunlight and exposure time.",
    AlertKind.CAMERA_LIGHT: (
        "Light changed: the picture is much brighter or darker than what the model was fitted on. "
        "Check lamp and daylight; if the light is to stay so, fit the model anew."
    ),
    AlertKind.CAMERA_BLURRED: "Picture blurred: out of focus, or a dirty lens. Clean the lens, then check its focus.",
    AlertKind.CAMERA_MOVED: (
        "Camera moved: it no longer sees the scene the model was fitted on. "
        "Turn it back; if it is to stay so, fit the model anew."
    ),
    AlertKind.CAMERA_OCCLUDED: "View blocked: something stands before the scene. Take it away.",
}
_ROWS, _COLUMNS = ("upper", "", "lower"), ("left", "", "right")
_ALONE = {"upper": "at the top", "lower": "at the bottom", "left": "on the left", "right": "on the right"}
_NAMED = 3  # golden samples listed by name


def defect_text(verdict: Verdict, rules: AlertRules) -> str:
    """Say where and how large, by how much the score is too high, and how often."""
    rule = rules.raise_
    often = "" if rule.n == 1 else f" ({rule.k} of the last {rule.n} rejected)"
    high = f"score {verdict.score:.3g} is above the threshold {verdict.threshold:.3g}"
    return f"Defect{_where(verdict.region)}: {high}{often}."


def added_text(verdict: Verdict, *, frames: int, total: float) -> str:
    """Say what added up, where no frame had to be rejected for itself."""
    limit = 0.0 if verdict.basis is None or verdict.basis.limit is None else verdict.basis.limit
    return (
        f"Defect{_where(verdict.region)}: {frames} frames in a row are each a little unusual; their evidence adds up "
        f"to {total:.3g}, good frames stay below {limit:.3g}."
    )


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


def drift_text(verdict: Verdict, *, rising: bool) -> str:
    """Say which way scores went."""
    way = (
        "higher than those of the good images it was calibrated on. Look for what changed in light, camera or material"
        if rising
        else "lower than those of the good images it was calibrated on: it may no longer see defects. "
        "Show it the golden samples"
    )
    return f"Scores drift: {verdict.model} gives scores {way}; if the change is to stay, calibrate or fit anew."


def golden_text(missed: Sequence[Shown]) -> str:
    """Say which golden samples were judged wrongly, and by what.

    Args:
        missed: at least one.
    """
    said = "; ".join(
        f"{one.image} is {one.status} instead of {one.expected} (worker {one.worker}, model {one.model or 'none'})"
        for one in missed[:_NAMED]
    )
    more = f"; and {len(missed) - _NAMED} more" if len(missed) > _NAMED else ""
    return f"Golden sample missed: {said}{more}. Do not trust this line's verdicts before it is mended."


def _where(region: Region | None) -> str:
    """` in the upper left, 1.2 % of the picture`; nothing where that is not known."""
    if region is None:
        return ""
    x0, y0, x1, y1 = region.box
    row, column = _ROWS[_third((y0 + y1) / 2)], _COLUMNS[_third((x0 + x1) / 2)]
    place = f"in the {row} {column}" if row and column else _ALONE.get(row or column, "in the centre")
    return f" {place}, {100 * region.area:.2g} % of the picture"


def _third(share: float) -> int:
    """0, 1 or 2: in which third of the picture."""
    return min(2, int(3 * share))
