"""Where rejecting begins, and what that promises, in numbers and in an operator's words."""

import math
from typing import Literal

from pydantic import BaseModel, ConfigDict
from scipy.special import bdtrik, betainc  # of scipy.stats, which costs every process two seconds of its start

from inference.tails import MANY

_SPANS = (("days", 86400), ("h", 3600), ("min", 60), ("s", 1))


class Threshold(BaseModel):
    """A threshold and its promise; a unit is an image, or a block of a video (`inference.blocks`)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    asked: float
    """Share of good units that may be rejected."""
    guaranteed_rate: float
    """Share of good units that are rejected at most, with `confidence`; above `asked` when extrapolated."""
    confidence: float
    """Probability, over draws of the calibration data, that the promise holds."""
    threshold: float
    """Reject when score > threshold."""
    n_good: int
    """Calibration scores it rests on."""
    n_needed: int
    """Calibration scores it takes to promise `asked` at all."""
    extrapolated: bool
    """True when `n_good < n_needed`: nothing is promised at `asked`, only `guaranteed_rate` is."""
    treatment: Literal["rank", "tail", "refused"]
    """`rank`: a good score, by its rank; promised. `tail`: estimated from the tail of the good scores; not promised.
    `refused`: not even estimated, see `reason`; it is the highest good score."""
    reason: str | None = None
    """Why the tail says nothing."""
    approximate: bool = False
    """The scores come from models other than the one that judges (cross calibration)."""
    text: str | None = None
    """What was asked, as it was asked."""
    unit: Literal["image", "block"] = "image"
    unit_s: float | None = None
    """Seconds from one unit to the next, as far as known."""
    ways: int = 1
    """Ways to a false alarm that share what was asked between them; this is the threshold of one."""

    @property
    def missing(self) -> int:
        """Good units that are wanting until `asked` is promised."""
        return max(self.n_needed - self.n_good, 0)

    def lines(self) -> dict[str, str]:
        """Say what is promised, for an operator: what was asked, the threshold, the promise, what would better it."""
        asked = self.text or _percent(self.asked)
        if self.text is not None and (self.unit == "block" or self.text.replace(" ", "") != f"{100 * self.asked:g}%"):
            asked += f", which is {self._often(self.asked)}"
        if self.ways > 1:
            asked += f"; evidence that adds up has the other 1/{self.ways} of it"
        about = "about " if self.approximate else ""
        said = {
            "asked": asked,
            "threshold": f"{self.threshold:.6g}{_TREATED[self.treatment]}",
            "guaranteed": f"at most {about}{self._often(self.guaranteed_rate)}, "
            f"with {_percent(self.confidence)} confidence from {self._good(self.n_good)}",
        }
        if self.reason is not None:
            said["refused"] = self.reason
        if self.missing:
            said["to promise it"] = f"{self._good(self.missing, more=True)} would do"
            if self.treatment == "refused" and 0 < MANY - self.n_good < self.missing:
                said["to estimate it"] = f"{self._good(MANY - self.n_good, more=True)} may be enough"
        return said

    def statement(self) -> str:
        """Say the same in one line."""
        said = self.lines()
        lines = [
            f"threshold {said.pop('threshold')}",
            f"asked {said.pop('asked')}",
            f"promised {said.pop('guaranteed')}",
        ]
        return "; ".join([*lines, *(f"{name}: {line}" for name, line in said.items())])

    def _often(self, share: float) -> str:
        """`4.7 % of good images`, `one per 2.1 h (0.05 % of blocks of 4 s)`."""
        block = "good images" if self.unit == "image" else "good blocks"
        if self.unit_s is None:
            return f"{_percent(share)} of {block}"
        each = f"{block} of {span(self.unit_s)}" if self.unit == "block" else block
        return f"one per {span(self.unit_s / share)} ({_percent(share)} of {each})"

    def _good(self, units: int, *, more: bool = False) -> str:
        """`12 more good images`; for a video `3 h more of good video`."""
        also = " more" if more else ""
        if self.unit == "image":
            return f"{units}{also} good image{'' if units == 1 else 's'}"
        if self.unit_s is None:
            return f"{units}{also} good block{'' if units == 1 else 's'} of video"
        return f"{span(units * self.unit_s)}{also} of good video"


_TREATED = {
    "rank": "",
    "tail": ", ESTIMATED from the tail of the good scores: no promise at what was asked",
    "refused": ", the highest good score: more cannot be said",
}


def scores_needed(rate: float, confidence: float = 0.95) -> int:
    """Fewest good scores that can promise `rate`: `1 - (1 - rate)^n >= confidence`."""
    needed = math.log1p(-confidence) / math.log1p(-rate)
    return math.ceil(needed * (1 - 1e-12))  # an exact integer must not be rounded up by its last bit


def highest_rank(n: int, rate: float, confidence: float) -> int:
    """The largest r such that rejecting above the r-th largest of n good scores keeps `rate`; 0: none does.

    `P(Beta(r, n + 1 - r) <= rate) = P(Binomial(n, rate) >= r)`, so r is a quantile of the binomial.
    """

    def kept(rank: int) -> bool:
        return rank == 0 or betainc(rank, n + 1 - rank, rate) >= confidence

    guess = bdtrik(1 - confidence, n, rate)
    rank = 0 if math.isnan(guess) else min(max(int(guess), 0), n)
    while rank < n and kept(rank + 1):  # equality in the quantile function
        rank += 1
    while not kept(rank):  # its rounding
        rank -= 1
    return rank


def span(seconds: float) -> str:
    """Say a stretch of time in two digits: `2.1 h`, `35 min`."""
    for name, length in _SPANS:
        if seconds >= 1.5 * length:
            return f"{seconds / length:.3g} {name}" if seconds >= 10 * length else f"{seconds / length:.2g} {name}"
    return f"{seconds:.2g} s"


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
