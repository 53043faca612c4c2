"""From a threshold back to what an operator would have to ask for: the inverse of `Calibration.limit`."""

import math
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal

from inference.calibration import Calibration
from inference.false_alarms import FalseAlarms, parse_false_alarms
from inference.threshold import Threshold

_RAREST = 1e-9  # of units
_HALVINGS = 40
_UNITS = (("days", 86400), ("h", 3600), ("min", 60), ("s", 1))
_PPM_BELOW = 1e-4


def asking_for(
    threshold: float,
    calibration: Calibration,
    *,
    like: FalseAlarms,
    fps: float | None = None,
    slack: float | None = None,
) -> tuple[FalseAlarms, Threshold] | None:
    """Find the most false alarms that may be asked for so that the threshold is at least this one.

    Thresholds are good scores, or lie beyond them on their tail, so few can be met exactly.

    Args:
        threshold: the one that is wanted.
        calibration: of the model.
        like: what is asked for now: the answer is a share or a number per time as it is.
        fps: see `Calibration.limit`.
        slack: see `Calibration.limit`.

    Returns:
        What to ask for, in three digits, and what that comes to; None: the calibration leads to no threshold this high.

    Raises:
        ValueError: `fps` is needed and not known.
    """
    unit_s = calibration.block_s or (None if fps is None else calibration.decorrelation / fps)
    like.rate(unit_s)

    def at(share: float) -> tuple[FalseAlarms, Threshold]:
        asked = _worded(share, unit_s if like.per_s is not None else None)
        return asked, calibration.limit(asked, fps=fps, slack=slack)

    low, high = math.log(_RAREST), math.log(0.5)
    if at(math.exp(low))[1].threshold < threshold:
        return None
    for _ in range(_HALVINGS):  # the threshold never falls as less is asked
        middle = (low + high) / 2
        low, high = (middle, high) if at(math.exp(middle))[1].threshold >= threshold else (low, middle)
    return at(math.exp(low))


def _worded(share: float, unit_s: float | None) -> FalseAlarms:
    """A share of units as somebody would write it, in three digits, rounded towards fewer false alarms."""
    if unit_s is None:
        scale, unit = (1e2, "%") if share >= _PPM_BELOW else (1e6, "ppm")
        return parse_false_alarms(f"{_floor(share * scale)}{unit}")
    every_s = unit_s / share
    unit, length = next((unit, length) for unit, length in _UNITS if every_s >= 2 * length or length == 1)
    return parse_false_alarms(f"1 per {_ceil(every_s / length)} {unit}")


def _floor(value: float) -> str:
    return f"{float(Decimal(value).normalize(Context(prec=3, rounding=ROUND_FLOOR))):.12g}"


def _ceil(value: float) -> str:
    return f"{float(Decimal(value).normalize(Context(prec=3, rounding=ROUND_CEILING))):.12f}".rstrip("0").rstrip(".")
