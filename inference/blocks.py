"""Frames of a video repeat each other: how long a block of them must be to count as one witness, and its maximum.

A hundred neighbouring frames are not a hundred good images. Scores are therefore cut into blocks clearly longer than
the time over which they remember each other, and each block counts once, by its highest score. The maxima of such
blocks are close to exchangeable, which is all that the promise about false alarms rests on; and as a block is a stretch
of time, the promise is one per time (Leadbetter, Lindgren, Rootzén: Extremes and Related Properties of Random Sequences
and Processes, 1983, chapter 3).
"""

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtri

BLOCK = 8
"""Correlation times a block lasts, beyond the one frame of scores that remember nothing. What fewer would break is
measured by `benchmarks/promises.py`."""


def correlation_time(scores: ArrayLike) -> float:
    """Integrated autocorrelation time of the scores of a video, in frames: 1 when each carries news.

    It is that of their normal scores (ranks turned into values of a normal law), so that it says how long high or low
    lasts, in whatever units; of heavy-tailed values themselves it would be that of a few outliers, which is shorter.

    Args:
        scores: `[n]` in order of time.

    Source: the window of Sokal (1997, "Monte Carlo Methods in Statistical Mechanics", section 3): sum autocorrelations
    up to the first lag that is five times the sum so far.
    """
    values = np.asarray(scores, np.float64)
    n = values.size
    _, place, ties = np.unique(values, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(ties) - (ties - 1) / 2)[place]  # ties share a rank
    x = ndtri((ranks - 0.5) / n)
    x = x - x.mean()
    power = float(x @ x)
    if n < 2 or power <= np.finfo(np.float64).tiny:
        return 1.0
    time = 1.0
    for lag in range(1, n):
        time += 2 * float(x[:-lag] @ x[lag:]) / power
        if lag >= 5 * time:
            break
    return float(np.clip(time, 1, n))


def block_length(scores: ArrayLike) -> int:
    """Frames of a block that counts once, of scores `[n]`: at least 1, at most all of them."""
    return min(1 + math.ceil(BLOCK * (correlation_time(scores) - 1)), np.size(scores))


def block_maxima(scores: ArrayLike, length: int) -> list[float]:
    """The highest score of each run of `length` neighbours; a rest shorter than that joins the last run.

    A promise that a share of such runs stays below a threshold holds for single frames all the more.
    """
    x = np.asarray(scores, np.float64)
    blocks = max(x.size // length, 1)
    starts = np.arange(blocks) * length
    return [float(m) for m in np.maximum.reduceat(x, starts)]
