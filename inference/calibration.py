"""From good scores to a promise about false alarms.

Notation: n good images that took no part in fitting gave the scores c_1 <= … <= c_n; s is the score of a new image. Of
a video, each score is the highest of a block of neighbouring frames (`inference.blocks`), and what is said of images
here holds for blocks.

- **p-value** `p = (1 + #{c_i >= s}) / (n + 1)`: for a good image that is exchangeable with the calibration images,
  `P(p <= a) <= a` for every a (split conformal; Bates et al., Annals of Statistics 2023, arXiv 2104.08279).
- **threshold** at the r-th largest good score, rejecting what lies strictly above: the share of good images it rejects
  is distributed as Beta(r, n + 1 - r) over draws of the calibration set, and is smaller still when scores are tied. So
  with the largest r for which `P(Beta(r, n + 1 - r) <= rate) >= confidence`, the asked rate is kept with that
  confidence, and as few defects as possible are missed.
- **tail**: when even r = 1 is too lenient for the asked rate, nothing can be promised at it. The threshold is then
  estimated from the tail of the good scores (`inference.tails`) and says so, or, where the tail does not allow even
  that, it is the highest good score and says why. It is never below the highest good score: what r = 1 guarantees then
  holds whatever the tail is worth, and asking for less never lowers the threshold.
"""

import math
from bisect import bisect_left
from functools import cached_property
from itertools import pairwise
from typing import Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError, model_validator
from scipy.special import betaincinv

from inference.accumulation import cusum, own_p_values
from inference.blocks import block_length, block_maxima
from inference.errors import EngineError
from inference.false_alarms import FalseAlarms
from inference.mapscale import MapScale
from inference.scene import Scene
from inference.tails import LEAST, LEAST_P, MANY, Tail, fit_tail
from inference.threshold import Threshold, highest_rank, scores_needed
from storage.records import Basis

_OFTEN = 0.5  # of blocks: a block counts one false alarm, so whoever accepts more than one in each is asked for this


class Calibration(BaseModel):
    """The good scores of one model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: Literal["split", "cross"]
    """`split`: images that took no part in fitting, the promise is exact. `cross`: each score comes from a model fitted
    without that image's fold, the final model from all images; the promise is then approximate."""
    scores: Annotated[tuple[FiniteFloat, ...], Field(min_length=1)]
    """Ascending."""
    decorrelation: Annotated[int, Field(ge=1)] = 1
    """Frames each score stands for. Of a video: the highest score of a block of that many neighbouring frames."""
    frame_s: Annotated[float, Field(gt=0)] | None = None
    """Of a video: seconds from one calibration frame to the next; None: images, or a source without a rate."""
    sequence: tuple[FiniteFloat, ...] | None = None
    """Of a video: every frame's score in order of time."""
    smoothing: Annotated[int, Field(ge=1)] = 1
    """Frames over which maps are averaged before they are scored (`inference.smoothing`); 1: each stands alone."""
    peaks: tuple[FiniteFloat, ...] | None = None
    """Highest value of each good map, ascending (of a video: of each block); None where it is the score."""
    scale: MapScale | None = None
    """To the scale all models' maps share; None: it gives no maps, or was calibrated by an older version."""
    scene: Scene | None = None
    """What the fixed camera sees when all is well; None: there is none, or it was calibrated by an older version."""

    @classmethod
    def recorded(cls, fields: object, *, ref: str) -> Self:
        """Read what lies beside model `ref`.

        Raises:
            EngineError: it is none of this version.
        """
        try:
            return cls.model_validate(fields)
        except ValidationError as exc:
            reason = " ".join(str(exc).split())
            raise EngineError(f"calibration of {ref} does not fit this version: {reason}") from exc

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

    @classmethod
    def of_video(
        cls, sequence: ArrayLike, *, method: Literal["split", "cross"] = "split", frame_s: float | None = None
    ) -> Self:
        """Calibrate on the scores `[n]` of good frames in order of time.

        Raises:
            ValueError: no scores, or one that is not finite.
        """
        frames = tuple(np.asarray(sequence, np.float64).tolist())
        length = block_length(frames)
        maxima = tuple(sorted(block_maxima(frames, length)))
        return cls(method=method, scores=maxima, decorrelation=length, frame_s=frame_s, sequence=frames)

    @property
    def unit(self) -> Literal["image", "block"]:
        """What each score stands for."""
        return "block" if self.sequence is not None or self.decorrelation > 1 else "image"

    @property
    def block_s(self) -> float | None:
        """Seconds of video that each score is the highest of; None: each is one image."""
        return None if self.frame_s is None else self.decorrelation * self.frame_s

    @cached_property
    def tail(self) -> Tail | None:
        """What the highest scores follow; None: there are too few."""
        return fit_tail(self.scores)

    def p_value(self, score: float) -> float:
        """Conformal p-value of a score, in [1 / (n + 1), 1]: small means anomalous.

        Raises:
            ValueError: the score is not a number; it must become `unknown`, never a p-value.
        """
        if math.isnan(score):
            raise ValueError("a score that is not a number has no p-value: judge the image as unknown")
        n = len(self.scores)
        return (1 + n - bisect_left(self.scores, score)) / (n + 1)

    def limit(
        self, asked: FalseAlarms, *, fps: float | None = None, confidence: float = 0.95, slack: float | None = None
    ) -> Threshold:
        """The threshold for what an operator asks.

        What is asked per time is meant per time: of a video, blocks with a score above the threshold are counted, so
        that one event is one false alarm however many frames it lasts. Of images, `fps` says how many there are.

        Args:
            asked: false alarms that are accepted.
            fps: frames judged a second; only what is asked per time of a model that does not know how long its units
                last (it was calibrated on images, or on a video without a rate) needs it.
            confidence: probability that the promise holds, in (0, 1).
            slack: of the evidence that adds up, when the line raises alarms on that too. Each of the two ways to an
                alarm then gets half of what is asked and half of the doubt, so that together they keep the promise.

        Raises:
            ValueError: `fps` is needed and not known, or more is asked than one false alarm in each unit.
        """
        unit_s = self.block_s or (None if fps is None else self.decorrelation / fps)
        ways = 1 if slack is None or self.sequence is None else 2
        if asked.per_s is not None and self.unit == "block" and unit_s is not None:
            rate = min(asked.per_s * unit_s, _OFTEN)
        else:
            rate = asked.rate(unit_s)
        found = self.threshold(rate / ways, 1 - (1 - confidence) / ways)
        told = unit_s if asked.per_s is not None or self.unit == "block" else None
        return found.model_copy(update={"text": asked.text, "unit_s": told, "ways": ways})

    def threshold(self, rate: float, confidence: float = 0.95) -> Threshold:
        """The lowest threshold that rejects at most `rate` of good images (or blocks), with `confidence`.

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
        rank = highest_rank(n, rate, confidence)
        best = max(rank, 1)
        treated: dict[str, Any] = {"threshold": self.scores[n - best], "treatment": "rank"}
        if rank == 0:
            reason = self._refusal()
            treated["treatment"] = "tail" if reason is None else "refused"
            treated["reason"] = reason
            if reason is None and self.tail is not None:
                treated["threshold"] = max(self.scores[-1], self.tail.quantile(rate))
        return Threshold(
            asked=rate,
            guaranteed_rate=float(betaincinv(best, n + 1 - best, confidence)),
            confidence=confidence,
            n_good=n,
            n_needed=scores_needed(rate, confidence),
            extrapolated=rank == 0,
            approximate=self.method == "cross",
            unit=self.unit,
            unit_s=self.block_s,
            **treated,
        )

    def pixel_threshold(self, limit: Threshold) -> float | None:
        """Value of the detector's own map above which a pixel counts as anomalous, as rare as `limit`; None: no maps.

        For detectors whose score is the highest value of the map, it is the threshold itself.
        """
        if self.scale is None:
            return None
        if self.peaks is None:
            return limit.threshold
        return Calibration.of(self.peaks, self.method).threshold(limit.asked, limit.confidence).threshold

    def accumulated(self, slack: float, limit: Threshold) -> Threshold | None:
        """The limit of evidence that adds up over frames, reached by good ones as rarely as `limit`.

        Sums remember longer than scores do, so they have blocks of their own.

        Args:
            slack: of the sum, see `inference.accumulation`.
            limit: what `limit` gave for the same line.

        Returns:
            A threshold for sums; None for a model calibrated on images: they have no order of time to add up over.
        """
        if self.sequence is None:
            return None
        sums = cusum(own_p_values(self.sequence, self.scores), slack)
        length = min(max(block_length(sums), self.decorrelation), sums.size)
        # As many alarms per time: a longer block may have as many more.
        rate = min(limit.asked * length / self.decorrelation, _OFTEN)
        found = Calibration.of(block_maxima(sums, length), self.method, decorrelation=length)
        unit_s = None if limit.unit_s is None else limit.unit_s * length / self.decorrelation
        told = {"text": limit.text, "unit": "block", "unit_s": unit_s, "ways": limit.ways}
        return found.threshold(rate, limit.confidence).model_copy(update=told)

    def basis(self, *, slack: float | None = None, limit: Threshold | None = None) -> Basis:
        """What p-values rest on, for the verdict; with `slack` and the line's `limit`, also when evidence adds up."""
        sums = None if slack is None or limit is None else self.accumulated(slack, limit)
        return Basis(n=len(self.scores), block_s=self.block_s, limit=None if sums is None else sums.threshold)

    def _refusal(self) -> str | None:
        """Why the tail cannot be trusted; None: it can."""
        if self.tail is None:
            if len(self.scores) < MANY:
                return f"an estimate from the tail takes {MANY} good scores, there are {len(self.scores)}"
            return f"many good scores are equal: fewer than {LEAST} stand out from the others, so they have no tail"
        if not self.tail.fits:
            which = f"Anderson-Darling p = {self.tail.p_value:.3g}, below {LEAST_P:g}"
            return f"the highest good scores follow no generalised Pareto law ({which}), so an estimate would mislead"
        return None
