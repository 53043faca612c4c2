"""Evidence that adds up over the frames of a video: how far it comes while all is well.

    S_t = max(0, S_(t-1) - ln p_t - slack)                  (CUSUM; Page, Biometrika 1954)

A good frame's `-ln p` averages at most 1, so with a slack above 1 the sum falls back to 0 again and again; a weak
defect that no single frame gives away makes it climb. How high it climbs by chance depends on how frames resemble their
neighbours, so the limit is calibrated on the good video itself and not taken from a formula for independent frames.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray


def cusum(p_values: ArrayLike, slack: float) -> NDArray[np.float64]:
    """Sums S `[n]` after each of the p-values `[n]`, in order of time, from S = 0."""
    steps = -np.log(np.asarray(p_values, np.float64)) - slack
    # The recursion in closed form: S is how far the running sum lies above its lowest point so far, 0 included.
    total = np.cumsum(steps)
    return total - np.minimum(np.minimum.accumulate(total), 0)


def own_p_values(sequence: ArrayLike, ascending: ArrayLike) -> NDArray[np.float64]:
    """P-values `[n]` of the frames of a calibration against the blocks they are not part of.

    The block a frame lies in has a maximum at least as high as the frame, so leaving it out takes one from the count.
    The divisor stays the n + 1 of serving: a frame above all others then adds as much here as it does there, which
    errs, by one part in n, towards a higher limit.

    Args:
        sequence: scores `[n]` of frames in order of time.
        ascending: the block maxima, sorted.
    """
    maxima, scores = np.asarray(ascending, np.float64), np.asarray(sequence, np.float64)
    at_least = maxima.size - np.searchsorted(maxima, scores, side="left")
    return np.maximum(at_least, 1) / (maxima.size + 1)
