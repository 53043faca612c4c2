"""Anomaly maps averaged over the frames of a video before they are scored: sensor noise goes, what stays remains.

An exponential moving average `m_t = (1 - a) m_{t-1} + a x_t` with `a = 2 / (frames + 1)`, whose frames are on average
as old as those of a window of that many. The map is averaged and not the score: noise that is highest here in one frame
and there in the next averages out in a map, but not in its maxima. Calibration smooths just as judging does
(`Calibration.smoothing`), so that a threshold is one for smoothed scores.
"""

import math

import numpy as np
from numpy.typing import NDArray

from ingest.wire import FrameHeader

Map = NDArray[np.float32]

GAP_S = 1.0
"""A line's average begins anew when nothing was judged for this long, or for as long as it spans if that is longer."""


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


class LineSmoother:
    """The average of one line, which knows from runs, numbers and times which frames belong together.

    It begins anew with each run, when the camera had been unfit and when nothing was judged for a while. Frames that
    are merely missing (skipped, late, failed) leave it: what was seen before them still holds, and a fresh average
    would be noisier than those that were calibrated on.

    Args:
        frames: how many it spans.
        frame_s: seconds between the frames it was calibrated on; None: not known.
    """

    def __init__(self, frames: int, *, frame_s: float | None) -> None:
        self._smoother = Smoother(frames)
        self._frames = frames
        self._gap_ns = round(max(GAP_S, frames * (frame_s or 0.0)) * 1e9)
        self._last: FrameHeader | None = None

    def add(self, header: FrameHeader, anomaly_map: Map, score: float) -> tuple[Map, float]:
        """Take a judged frame; gives map and score as `Smoother.add` does.

        One that was overtaken, because it had to be sent again, is scored with the present average, which it does not
        change: it has no place in it any more.
        """
        last = self._last
        if last is not None and (header.run, header.seq) <= (last.run, last.seq):
            of_this_run = header.run == last.run
            return (self._smoother if of_this_run else Smoother(self._frames)).blend(anomaly_map, score)
        if last is None or header.run != last.run or header.mono_ns - last.mono_ns > self._gap_ns:
            self._smoother.reset()
        self._last = header
        return self._smoother.add(anomaly_map, score)

    def interrupt(self, header: FrameHeader) -> None:
        """The camera was unfit at this frame: the next one begins anew."""
        last = self._last
        if last is None or (header.run, header.seq) > (last.run, last.seq):
            self._smoother.reset()
            self._last = header
