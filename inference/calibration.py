"""From good scores to a promise about false alarms.

Notation: n good images that took no part in fitting gave the scores c_1 <= … <= c_n; s is the score of a new image.

- **p-value** `p = (1 + #{c_i >= s}) / (n + 1)`: for a good image that is exchangeable with the calibration images,
  `P(p <= a) <= a` for every a (split conformal; Bates et al., Annals of Statistics 2023, arXiv 2104.08279).
- **threshold** at the r-th largest good score, rejecting what lies strictly above: the share of good images it rejects
  is distributed as Beta(r, n + 1 - r) over draws of the calibration set, and is smaller still when scores are tied. So
  with the largest r for which `P(Beta(r, n + 1 - r) <= rate) >= confidence`, the asked rate is kept with that
  confidence, and as few defects as possible are missed.

When even r = 1 is too lenient for the asked rate, nothing can be promised at it: the threshold is then extrapolated
from the tail, and says so.
"""

import math
from bisect import bisect_left
from itertools import pairwise
from typing import Annotated, Literal, Self

import numpy as np
from numpy.typing import ArrayLike
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, model_validator
from scipy.stats import beta, binom

from inference.false_alarms import FalseAlarms
from inference.mapscale import MapScale
from inference.scene import Scene
from storage.records import Basis

_TAIL = 0.8  # quantile above which good scores are taken to fall off exponentially


class Threshold(BaseModel):
    """Where rejecting begins, and what that promises."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    asked: float
    """Share of good images that may be rejected."""
    guaranteed_rate: float
    """Share of good images that are rejected at most, with `confidence`; above `asked` when extrapolated."""
    confidence: float
    """Probability, over draws of the calibration images, that the promise holds."""
    threshold: float
    """Reject when score > threshold."""
    n_good: int
    """Calibration scores it rests on."""
    n_needed: int
    """Calibration scores it takes to promise `asked` at all."""
    extrapolated: bool
    """True when `n_good < n_needed`: `asked` is then an estimate from the tail, not a promise."""

    def statement(self, *, approximate: bool = False) -> str:
        """Say in one line what is promised, for an operator."""
        rests = f"{self.n_good} good score{'s' if self.n_good != 1 else ''}"
        about = "about " if approximate else ""
        promise = (
            f"at most {about}{_percent(self.guaranteed_rate)} of good images rejected, "
            f"with {_percent(self.confidence)} confidence from {rests}"
        )
        if not self.extrapolated:
            return f"threshold {self.threshold:.6g}: {promise} (asked {_percent(self.asked)})"
        return (
            f"threshold {self.threshold:.6g}: EXTRAPOLATED to the asked {_percent(self.asked)}, no promise; "
            f"promised is {promise}; {_percent(self.asked)} needs {self.n_needed}"
        )


class Calibration(BaseModel):
    """The good scores of one model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: Literal["split", "cross"]
    """`split`: images that took no part in fitting, the promise is exact. `cross`: each score comes from a model fitted
    without that image's fold, the final model from all images; the promise is then approximate."""
    scores: Annotated[tuple[FiniteFloat, ...], Field(min_length=1)]
    """Ascending."""
    decorrelation: Annotated[int, Field(ge=1)] = 1
    """Frames each score stands for. Above 1 for video: the highest score of that many neighbouring frames."""
    frame_s: Annotated[float, Field(gt=0)] | None = None
    """Of a video: seconds from one calibration frame to the next; None: images, or a source without a rate."""
    sequence: tuple[FiniteFloat, ...] | None = None
    """Of a video: every frame's score in order of time."""
    smoothing: Annotated[int, Field(ge=1)] = 1
    """Frames over which maps are averaged before they are scored (`inference.smoothing`); 1: each stands alone."""
    peaks: tuple[FiniteFloat, ...] | None = None
    """Highest value of each good map, ascending (of a video: of each block); None where it is the score."""
    scale: MapScale | None = None
    """To the scale all models' maps share; None: the detector gives no maps, or it was calibrated by an older version."""
    scene: Scene | None = None
    """What the fixed camera sees when all is well; None: there is none, or it was calibrated by an older version."""

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        if any(a > b for a, b in pairwise(self.scores)):
            raise ValueError("calibration scores must ascend: sort them")
        return self

    @classmethod
    def of(cls, scores: ArrayLike, method: Literal["split", "cross"], *, decorrelation: int = 1) -> Self:
        """Calibrate on good scores `[n]` in any order.

        Raises:
            ValueError: no scores, or one that is not finite.
        """
        ascending = tuple(np.sort(np.asarray(scores, np.float64)).tolist())
        return cls(method=method, scores=ascending, decorrelation=decorrelation)

    def p_value(self, score: float) -> float:
        """Conformal p-value of a score, in [1 / (n + 1), 1]: small means anomalous.

        Raises:
            ValueError: the score is not a number; it must become `unknown`, never a p-value.
        """
        if math.isnan(score):
            raise ValueError("a score that is not a number has no p-value: judge the image as unknown")
        n = len(self.scores)
        return (1 + n - bisect_left(self.scores, score)) / (n + 1)

    def threshold(self, rate: float, confidence: float = 0.95) -> Threshold:
        """The lowest threshold that rejects at most `rate` of good images, with `confidence`.

        Args:
            rate: share of good images that may be rejected, in (0, 1).
            confidence: probability that the promise holds, in (0, 1).

        Raises:
            ValueError: rate or confidence lies outside (0, 1).
        """
        for name, share in (("false-alarm rate", rate), ("confidence", confidence)):
            if not 0 < share < 1:
                raise ValueError(f"{name} {share:g} must lie between 0 and 1, both excluded")
        n = len(self.scores)
        # P(Beta(r, n+1-r) <= rate) = P(Binomial(n, rate) >= r), so r is a quantile of the binomial.
        rank = min(int(binom.ppf(1 - confidence, n, rate)), n)
        while rank < n and binom.sf(rank, n, rate) >= confidence:  # equality in the quantile function
            rank += 1
        while rank > 0 and binom.sf(rank - 1, n, rate) < confidence:  # its rounding
            rank -= 1
        extrapolated = rank == 0
        best = max(rank, 1)
        return Threshold(
            asked=rate,
            guaranteed_rate=float(beta.ppf(confidence, best, n + 1 - best)),
            confidence=confidence,
            threshold=self._tail(rate) if extrapolated else self.scores[n - rank],
            n_good=n,
            n_needed=scores_needed(rate, confidence),
            extrapolated=extrapolated,
        )

    @property
    def block_s(self) -> float | None:
        """Seconds of video that each score is the highest of; None: each is one image."""
        return None if self.frame_s is None else self.decorrelation * self.frame_s

    def limit(self, asked: FalseAlarms, *, fps: float | None = None, confidence: float = 0.95) -> Threshold:
        """The threshold for what an operator asks.

        What is asked per time is meant per time: of a video, blocks with a score above the threshold are counted, so
        that one event is one false alarm however many frames it lasts. Of images, `fps` says how many there are.

        Args:
            asked: false alarms that are accepted.
            fps: judged images a second; only what is asked per time of a model calibrated on images needs it.
            confidence: probability that the promise holds, in (0, 1).

        Raises:
            ValueError: it is needed and not known.
        """
        unit_s = self.block_s or (None if fps is None else 1 / fps)
        return self.threshold(asked.rate(unit_s), confidence)

    def pixel_threshold(self, limit: Threshold) -> float | None:
        """Value of the detector's own map above which a pixel counts as anomalous, as rare as `limit`; None: no maps.

        For detectors whose score is the highest value of the map, it is the threshold itself.
        """
        if self.scale is None:
            return None
        if self.peaks is None:
            return limit.threshold
        return Calibration.of(self.peaks, self.method).threshold(limit.asked, limit.confidence).threshold

    def basis(self, *, slack: float | None = None, limit: Threshold | None = None) -> Basis:
        """What p-values rest on, for the verdict; with `slack`, also the limit of evidence that adds up."""
        return Basis(n=len(self.scores), block_s=self.block_s, limit=None)

    def _tail(self, rate: float) -> float:
        """Exponential tail above the 80 % quantile (mean excess), never below the highest good score."""
        scores = np.asarray(self.scores)
        start = float(np.quantile(scores, _TAIL))
        excesses = scores[scores > start] - start
        if excesses.size == 0:
            return self.scores[-1]
        share = excesses.size / scores.size
        return max(self.scores[-1], start + float(excesses.mean()) * math.log(share / rate))


def scores_needed(rate: float, confidence: float = 0.95) -> int:
    """Fewest good scores that can promise `rate`: `1 - (1 - rate)^n >= confidence`."""
    needed = math.log1p(-confidence) / math.log1p(-rate)
    return math.ceil(needed * (1 - 1e-12))  # an exact integer must not be rounded up by its last bit


def decorrelation_time(scores: ArrayLike) -> int:
    """Frames after which the scores of a video carry news: their integrated autocorrelation time, at least 1.

    Args:
        scores: `[n]` in order of time.

    Source: the window of Sokal (1997, "Monte Carlo Methods in Statistical Mechanics", section 3): sum autocorrelations
    up to the first lag that is five times the sum so far.
    """
    x = np.asarray(scores, np.float64)
    x = x - x.mean()
    n = x.size
    power = float(x @ x)
    if n < 2 or power <= np.finfo(np.float64).tiny:
        return 1
    time = 1.0
    for lag in range(1, n):
        time += 2 * float(x[:-lag] @ x[lag:]) / power
        if lag >= 5 * time:
            break
    return int(np.clip(math.ceil(time), 1, n))


def block_maxima(scores: ArrayLike, length: int) -> list[float]:
    """The highest score of each run of `length` neighbours; a rest shorter than that joins the last run.

    A promise that a share of such runs stays below a threshold holds for single frames all the more.
    """
    x = np.asarray(scores, np.float64)
    blocks = max(x.size // length, 1)
    starts = np.arange(blocks) * length
    return [float(m) for m in np.maximum.reduceat(x, starts)]


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
