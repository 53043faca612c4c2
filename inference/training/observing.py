"""What good images show of a model: one accumulator for every way to calibrate it."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from inference.blocks import block_maxima
from inference.calibration import Calibration
from inference.errors import FitError
from inference.mapscale import HIGH, LOW, MapScale
from inference.scene import SceneBuilder
from inference.smoothing import Smoother
from ingest.preprocess import RGB

_SAME = 1e-6  # relative difference up to which a map's peak is the score


class Observer:
    """Collects scores, peaks of maps, two quantiles of each map, and the scene: memory does not grow with pixels.

    Args:
        video: the images are frames in order of time.
        smoothing: frames over which maps are averaged before they are scored; above 1 for video alone.

    Raises:
        FitError: images were to be smoothed.
    """

    def __init__(self, *, video: bool = False, smoothing: int = 1) -> None:
        refuse_smoothing(smoothing, video=video)
        self._video, self._smoothing = video, smoothing
        self._smoother = Smoother(smoothing)
        self._scene = SceneBuilder()
        self._scores: list[float] = []
        self._peaks: list[float] = []
        self._quantiles: list[tuple[float, float]] = []

    def add(self, pictures: RGB, scores: NDArray[np.float32], maps: NDArray[np.float32]) -> None:
        """Take what a model says of good images, in their order.

        Args:
            pictures: `[B, h, w, 3]` uint8 RGB, as the model was shown them.
            scores: `[B]`.
            maps: `[B, h, w]`; `[B, 1, 1]` of a detector without maps.
        """
        self._scene.add(pictures)
        for found, value in zip(maps, scores, strict=True):
            anomaly_map, score = self._smoother.add(found, float(value))
            self._scores.append(score)
            if anomaly_map.size > 1:
                self._peaks.append(float(anomaly_map.max()))
                low, high = np.quantile(anomaly_map, (LOW, HIGH))
                self._quantiles.append((float(low), float(high)))

    @property
    def scores(self) -> NDArray[np.float64]:
        """Scores `[n]` so far, in order."""
        return np.asarray(self._scores, np.float64)

    def calibration(self, *, method: Literal["split", "cross"] = "split", frame_s: float | None = None) -> Calibration:
        """Calibrate on what was seen.

        Args:
            method: see `inference.calibration.Calibration`.
            frame_s: of a video, seconds from one frame to the next.

        Raises:
            FitError: a score is not finite.
        """
        found = from_scores(self.scores, video=self._video, method=method, frame_s=frame_s)
        return found.model_copy(
            update={
                "smoothing": self._smoothing,
                "peaks": self._own_peaks(found.decorrelation),
                "scale": self._scale(),
                "scene": self._scene.scene(),
            }
        )

    def _own_peaks(self, block: int) -> tuple[float, ...] | None:
        """Peaks as calibration keeps scores, where they are not the scores."""
        if not self._peaks or np.allclose(self._peaks, self._scores, rtol=_SAME, atol=0):
            return None
        return tuple(sorted(block_maxima(self._peaks, block)))

    def _scale(self) -> MapScale | None:
        """Median over images of the quantiles of their maps; None: no maps, or ones that are flat."""
        if not self._quantiles:
            return None
        low, high = np.median(np.asarray(self._quantiles), axis=0).tolist()
        return MapScale(low=low, high=high) if low < high else None


def refuse_smoothing(smoothing: int, *, video: bool) -> None:
    """Refuse to smooth images before any work is done.

    Raises:
        FitError: images were to be smoothed.
    """
    if smoothing > 1 and not video:
        raise FitError(f"smoothing over {smoothing} frames is for video: images have no neighbours in time")


def from_scores(
    scores: NDArray[np.floating],
    *,
    video: bool = False,
    method: Literal["split", "cross"] = "split",
    frame_s: float | None = None,
) -> Calibration:
    """Calibrate on scores `[n]` in order of time.

    Raises:
        FitError: a score is not finite.
    """
    if not np.isfinite(scores).all():
        raise FitError(
            f"{np.count_nonzero(~np.isfinite(scores))} of {scores.size} good images get a score that is not finite: "
            "the model cannot be calibrated; fit it again with more varied images or stronger regularisation"
        )
    return Calibration.of_video(scores, method=method, frame_s=frame_s) if video else Calibration.of(scores, method)
