"""Anomaly maps averaged over the frames of a video before they are scored: sensor noise goes, what stays remains.

An exponential moving average `m_t = (1 - a) m_{t-1} + a x_t` with `a = 2 / (frames + 1)`, whose frames are on average
as old as those of a window of that many. The map is averaged and not the score: noise that is highest here in one frame
and there in the next averages out in a map, but not in its maxima. Calibration smooths just as judging does
(`Calibration.smoothing`), so that a threshold is one for smoothed scores.
"""

import math

import numpy as np
from numpy.typing import NDArray

Map = NDArray[np.float32]


class Smoother:
    """The average of one uninterrupted stretch of frames, in order of time.

    Args:
        frames: how many it spans; with 1 each frame stands alone, and its score is the detector's own.
    """

    def __init__(self, frames: int) -> None:
        if frames < 1:
            raise ValueError(f"smoothing over {frames} frames: at least 1, which leaves each frame alone")
        self._weight = 2 / (frames + 1)
        self._map: Map | None = None
        self._score = math.nan

    def add(self, anomaly_map: Map, score: float, pixel_maps: bool = True) -> tuple[Map, float]:
        """Take the next frame; the first after a reset is its own average.

        A frame with a value that is not finite is given back with NaN as its score, and leaves the average as it was.

        Args:
            anomaly_map: `[h, w]` float32.
            score: the detector's image score.
            pixel_maps: whether the detector gives maps (one of a single cell is none); without them the score itself is
                averaged.

        Returns:
            The averaged map and its score: the highest value in it, or the average of the scores.
        """
        blended = self.blend(anomaly_map, score, pixel_maps)
        if math.isfinite(blended[1]):
            self._map, self._score = blended
        return blended

    def blend(self, anomaly_map: Map, score: float, pixel_maps: bool = True) -> tuple[Map, float]:
        """What `add` would give; the average stays as it is."""
        if self._weight == 1:
            return anomaly_map, score
        if not (math.isfinite(score) and np.isfinite(anomaly_map).all()):
            return anomaly_map, math.nan
        if self._map is not None:
            past = 1 - self._weight
            anomaly_map = past * self._map + self._weight * anomaly_map
            score = past * self._score + self._weight * score
        with_pixels = pixel_maps and anomaly_map.size > 1
        return anomaly_map, float(anomaly_map.max()) if with_pixels else score

    def reset(self) -> None:
        """Forget what was seen."""
        self._map, self._score = None, math.nan
