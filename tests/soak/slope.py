"""Is a process's memory flat? A robust slope with a confidence interval, and what is made of it. Pure.

Resident memory is noisy (buffers come and go, the allocator gives back in steps) and neighbouring samples are not
independent. So the stretch that is judged is cut into blocks, each stands for the median of its samples, and the slope
is the median of the slopes between all pairs of blocks (Theil, 1950) with Sen's interval (Sen, 1968).

Before that one step between blocks is taken out, if it stands out (six times the usual one) and is at most one percent
of the whole: an allocator takes from the system in pieces of some megabytes, and when it takes the last one is chance.
A leak takes more than one.

- `grows`: the interval lies above 0, and the growth over the stretch is more than 1 MB and half a percent of the whole:
  less is what an allocator does.
- `unclear`: the interval still reaches `LEAK_MB_PER_H`: the run was too short, or too noisy, to rule a leak out.
- `flat`: neither. A leak of `LEAK_MB_PER_H` or more has been ruled out, and none was seen.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from scipy.stats import theilslopes

LEAK_MB_PER_H = 10.0
"""What an hour's run must rule out: 240 MB a day."""
CONFIDENCE = 0.95
BLOCKS = 24
_LEAST_BLOCKS = 4
_LEAST_GROWTH_MB = 1.0
_LEAST_SHARE = 0.005
_LARGEST_STEP = 0.01
_STANDS_OUT = 6.0
_HOUR_S = 3600.0


class Trend(StrEnum):
    """What a stretch of samples shows."""

    FLAT = "flat"
    GROWS = "grows"
    UNCLEAR = "unclear"


@dataclass(frozen=True, slots=True)
class Slope:
    """MB per hour: the estimate, its interval, and what it comes to."""

    mb_per_h: float
    low: float
    high: float
    trend: Trend


def slope(at_s: Sequence[float], mb: Sequence[float]) -> Slope:
    """Judge one series.

    Args:
        at_s: times of the samples, seconds, ascending; the warm-up is not among them.
        mb: memory at these times, megabytes.
    """
    times, values = _blocks(np.asarray(at_s, float), np.asarray(mb, float))
    values = _without_step(values)
    if len(times) < _LEAST_BLOCKS:
        return Slope(float("nan"), float("-inf"), float("inf"), Trend.UNCLEAR)
    found = theilslopes(values, times / _HOUR_S, alpha=CONFIDENCE)
    estimate, low, high = float(found.slope), float(found.low_slope), float(found.high_slope)
    growth = estimate * (times[-1] - times[0]) / _HOUR_S
    matters = growth > max(_LEAST_GROWTH_MB, _LEAST_SHARE * float(np.median(values)))
    if low > 0 and matters:
        return Slope(estimate, low, high, Trend.GROWS)
    return Slope(estimate, low, high, Trend.UNCLEAR if high >= LEAK_MB_PER_H else Trend.FLAT)


def _blocks(times: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Middle time and median of `BLOCKS` stretches of equally many samples; the samples themselves if there are few."""
    count = min(BLOCKS, len(times))
    parts = [part for part in np.array_split(np.arange(len(times)), count) if len(part)] if count else []
    return (
        np.array([times[part].mean() for part in parts]),
        # The lower of the two in the middle: a block that a step divides stands on one side of it.
        np.array([np.percentile(values[part], 50, method="lower") for part in parts]),
    )


def _without_step(values: np.ndarray) -> np.ndarray:
    """The blocks, those after a step that stands out moved back by it."""
    steps = np.diff(values)
    if not len(steps):
        return values
    sizes = np.abs(steps)
    where = int(np.argmax(sizes))
    if _STANDS_OUT * float(np.median(sizes)) < sizes[where] <= _LARGEST_STEP * float(np.median(values)):
        return np.concatenate([values[: where + 1], values[where + 1 :] - steps[where]])
    return values
