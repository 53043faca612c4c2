"""How sure one can be of a share that was counted: the exact interval of Clopper and Pearson, without scipy.

Source: Clopper and Pearson (1934), "The use of confidence or fiducial limits illustrated in the case of the binomial",
Biometrika 26(4).
"""

import math
from collections.abc import Callable

from pydantic import BaseModel, ConfigDict, Field

_HALVINGS = 60
_NEGLIGIBLE = 1e-18


class Share(BaseModel):
    """An estimated share with its confidence interval; `value` is None where nothing speaks for any value."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    value: float | None = Field(ge=0, le=1)
    low: float = Field(ge=0, le=1)
    high: float = Field(ge=0, le=1)

    def __str__(self) -> str:
        """For people: `1.2 % (0.4 % to 3 %)`."""
        value = "unknown" if self.value is None else percent(self.value)
        return f"{value} ({percent(self.low)} to {percent(self.high)})"


def counted(hits: int, of: int, confidence: float = 0.95) -> Share:
    """Estimate a share from a count."""
    low, high = clopper_pearson(hits, of, confidence)
    return Share(value=hits / of if of else None, low=low, high=high)


def clopper_pearson(hits: int, of: int, confidence: float = 0.95) -> tuple[float, float]:
    """Interval that holds the true share with at least this confidence, whatever the share is.

    Args:
        hits: how many of `of` independent trials; 0 <= hits <= of.
        of: trials; with none, the interval is 0 to 1.
        confidence: in (0, 1); what is left is split evenly between both sides.

    Raises:
        ValueError: an argument lies outside its range.
    """
    if not (0 <= hits <= of and 0 < confidence < 1):
        raise ValueError(
            f"{hits} of {of} at confidence {confidence:g} is no count: 0 <= hits <= of, 0 < confidence < 1"
        )
    miss = (1 - confidence) / 2
    # Both tails grow or fall steadily with the share, so each end is where the tail meets `miss`.
    low = 0.0 if hits == 0 else _where(lambda p: _at_least(hits, of, p) >= miss)
    high = 1.0 if hits == of else _where(lambda p: _at_least(hits + 1, of, p) >= 1 - miss)
    return low, high


def percent(share: float) -> str:
    """A share for people: in percent, or in ppm where that reads better."""
    return f"{1e6 * share:.3g} ppm" if 0 < share < 1e-3 else f"{100 * share:.3g} %"


def _where(reached: Callable[[float], bool]) -> float:
    """The share from which on a condition holds, by bisection."""
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if reached(middle) else (middle, high)
    return high


def _at_least(hits: int, of: int, share: float) -> float:
    """P(Binomial(of, share) >= hits), for 1 <= hits <= of and 0 < share < 1, summed from the side that is smaller."""
    if hits > of * share:
        return _tail(hits, of, share)
    # What is fewer than `hits` here is more than `of - hits` of the opposite.
    return 1 - _tail(of - hits + 1, of, 1 - share)


def _tail(hits: int, of: int, share: float) -> float:
    """The same for `hits` at or above the mean, where terms only fall: until they count no more."""
    log_term = (
        math.lgamma(of + 1)
        - math.lgamma(hits + 1)
        - math.lgamma(of - hits + 1)
        + hits * math.log(share)
        + (of - hits) * math.log1p(-share)
    )
    term = math.exp(log_term)
    total, odds = term, share / (1 - share)
    while hits < of and term > _NEGLIGIBLE * total:
        term *= odds * (of - hits) / (hits + 1)
        hits += 1
        total += term
    return min(total, 1.0)
