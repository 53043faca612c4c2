"""Which promises about false alarms a line cannot have from its model's calibration, why, and what mends it."""

from collections.abc import Iterator
from dataclasses import dataclass

from inference.calibration import Calibration
from inference.config import JudgeConfig
from inference.threshold import Threshold, span

_FASTER = 1.05
"""A line may be this much faster than its calibration: cameras keep their rate no better."""


@dataclass(frozen=True, slots=True)
class Broken:
    """A promise that is not held.

    Attributes:
        why: one sentence.
        mend: what to do about it.
    """

    why: str
    mend: str


def broken_promises(calibration: Calibration, limit: Threshold, judge: JudgeConfig) -> Iterator[Broken]:
    """Why a line may see more false alarms than it asks for, or miss what adds up.

    Args:
        calibration: of the model.
        limit: the threshold it gives the line.
        judge: what the line asks for.
    """
    if limit.extrapolated:
        needed = f"{limit.n_needed} good {limit.unit}s"
        if limit.unit == "block" and limit.unit_s is not None:
            needed = f"{span(limit.n_needed * limit.unit_s)} of good video"
        asked = limit.text or f"{100 * limit.asked:g} %"
        yield Broken(limit.statement(), f"calibrate with {needed}, or accept more than `{asked}`")
    if judge.slack is not None and calibration.sequence is None:
        yield Broken(
            "was calibrated on images, which have no order of time: evidence does not add up",
            "calibrate it on a video of the line, or leave out `alert.cusum`",
        )
    rate = None if calibration.frame_s is None else 1 / calibration.frame_s
    if judge.fps is not None and rate is not None and judge.fps > _FASTER * rate:
        yield Broken(
            f"was calibrated at {rate:.3g} frames a second, the line has {judge.fps:g}: more of them have their "
            "chance of a false alarm in the same time",
            "calibrate it on a video of as many (--every), or lower the line's `fps`",
        )
