"""Peaks over threshold: what lies beyond the good scores there are, where their tail allows a guess.

Notation: n scores, of which k exceed the start t of the tail by x_1 … x_k. Far enough out, exceedances of almost any
distribution follow a generalised Pareto law with shape g and scale s, `P(X > x) = (1 + g x / s)^(-1 / g)` (Pickands,
Annals of Statistics 1975), so the score that a share q of good images exceeds is

    z_q = t + s / g ((q n / k)^-g - 1)             (Siffer et al., KDD 2017, eq. 1)

This is an estimate and no promise. It is not even an estimate when there are too few exceedances, or when they do not
follow the law: whether they do is asked by Anderson and Darling's statistic.
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LEAST = 50
"""Exceedances it takes."""
WIDEST = 0.2
"""Share of the scores that may count as their tail."""
MANY = math.ceil(LEAST / WIDEST)
"""Scores below which no estimate is tried."""
LEAST_P = 0.05
"""A fit whose Anderson-Darling p-value is lower is rejected."""

_USUAL = 0.05  # share of the scores taken for their tail when that is enough of them
_MOST = 200  # exceedances that are looked at: more would make the fit slow and reach into the bulk
_RESAMPLES = 99  # of the bootstrap; its p-value is a multiple of 1 / 100
_FLAT = 1e-9  # shape taken for 0, the exponential law


@dataclass(frozen=True, slots=True)
class Tail:
    """A generalised Pareto law fitted to the highest of n scores.

    Attributes:
        start: t, the score the tail begins above.
        shape: g; negative: scores have an end, 0: exponential, positive: heavy.
        scale: s, in units of the score.
        n: scores, the bulk among them.
        excesses: `[k]` ascending, exceedances less t.
        p_value: of the Anderson-Darling statistic, by parametric bootstrap.
    """

    start: float
    shape: float
    scale: float
    n: int
    excesses: NDArray[np.float64]
    p_value: float

    @property
    def fits(self) -> bool:
        """Whether exceedances follow the law as far as can be told."""
        return self.p_value >= LEAST_P

    def quantile(self, rate: float) -> float:
        """z_q: the score that a share `rate` of good images exceeds, for rates up to k / n."""
        x = math.log(self.excesses.size / (rate * self.n))  # exceedances as far out: an exponential variable
        return self.start + self.scale * (x if abs(self.shape) < _FLAT else math.expm1(self.shape * x) / self.shape)

    def expected(self) -> NDArray[np.float64]:
        """`[k]`: where the law puts the scores, for a QQ plot against `start + excesses`."""
        k = self.excesses.size
        x = -np.log1p(-(np.arange(1, k + 1) - 0.5) / k)
        return self.start + self.scale * (x if abs(self.shape) < _FLAT else np.expm1(self.shape * x) / self.shape)


def fit_tail(scores: Sequence[float]) -> Tail | None:
    """Fit the highest of `scores` `[n]`, ascending; None: fewer than `LEAST` exceed any possible start of a tail.

    The tail is the top 5 %, or more where that is too few, never more than the top 20 %. Takes about 10 ms; the same
    scores give the same tail.
    """
    n = len(scores)
    k = min(max(LEAST, round(_USUAL * n)), _MOST)
    if n < MANY:
        return None
    start = scores[n - k - 1]
    if n - bisect_right(scores, start) < LEAST:  # ties: begin at the next lower score
        below = bisect_left(scores, start)
        if below == 0 or n - below > WIDEST * n:
            return None
        start = scores[below - 1]
    excesses = np.asarray(scores[bisect_right(scores, start) :], np.float64) - start
    unit = float(excesses.mean())  # a law of unit mean: the bootstrap's numbers stay near 1 whatever a score is
    shape, scale = fit_pareto(excesses[None] / unit)
    p_value = _goodness(excesses / unit, float(shape[0]), float(scale[0]))
    return Tail(start, float(shape[0]), unit * float(scale[0]), n, excesses, p_value)


def fit_pareto(x: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Shapes `[r]` and scales `[r]` of r samples `[r, k]`, each ascending and above 0.

    Source: Zhang and Stephens, Technometrics 2009, section 4: the posterior mean of `-g / s` under a prior from the
    data, on a grid; near the efficiency of maximum likelihood, always defined, and without iterations. (Their k is -g.)
    """
    k = x.shape[1]
    m = 20 + math.isqrt(k)
    grid = 1 - np.sqrt(m / (np.arange(1, m + 1) - 0.5))  # [m]
    theta = 1 / x[:, -1:] + grid / (3 * x[:, [max(math.floor(k / 4 + 0.5), 1) - 1]])  # [r, m]
    shape = np.stack([np.log1p(-theta[:, [j]] * x).mean(1) for j in range(m)], 1)  # [r, m]: memory stays [r, k]
    likelihood = k * (np.log(-theta / shape) - shape - 1)
    weights = np.exp(likelihood - likelihood.max(1, keepdims=True))
    best = (theta * weights).sum(1) / weights.sum(1)  # [r]
    # At 0 the law is exponential and s = -g / theta is 0 / 0: a step aside, far below what the data can tell.
    best = np.where(np.abs(best) < _FLAT / x.mean(1), _FLAT / x.mean(1), best)
    found = np.log1p(-best[:, None] * x).mean(1)
    return found, -found / best


def anderson_darling(
    x: NDArray[np.float64], shape: NDArray[np.float64], scale: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Statistics A² `[r]` of samples `[r, k]`, ascending, against laws of these shapes and scales `[r]`.

    Source: Anderson and Darling, JASA 1954: squared distances of the distribution functions, weighed most at the ends.
    """
    k = x.shape[1]
    inside = np.maximum(1 + shape[:, None] * x / scale[:, None], np.finfo(np.float64).tiny)
    flat = np.abs(shape[:, None]) < _FLAT
    far = np.where(flat, x / scale[:, None], np.log(inside) / np.where(flat, 1, shape[:, None]))  # -log P(X > x)
    above = -far
    below = np.log(-np.expm1(-np.maximum(far, np.finfo(np.float64).tiny)))
    odd = 2 * np.arange(1, k + 1) - 1
    return np.asarray(-k - (odd * (below + above[:, ::-1])).mean(1), np.float64)


def _goodness(x: NDArray[np.float64], shape: float, scale: float) -> float:
    """Share of samples of the law itself that fit worse, parameters estimated anew for each (Stute et al. 1993)."""
    uniform = np.random.default_rng(0).random((_RESAMPLES, x.size))
    drawn = -np.log1p(-uniform)
    drawn = np.sort(scale * (drawn if abs(shape) < _FLAT else np.expm1(shape * drawn) / shape), 1)
    samples = np.concatenate([x[None], np.maximum(drawn, np.finfo(np.float64).tiny)])
    statistics = anderson_darling(samples, *fit_pareto(samples))
    return float(np.mean(statistics >= statistics[0]))
