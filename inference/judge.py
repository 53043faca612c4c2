"""From score to verdict. Pure, and the only place where a `pass` is made."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inference.calibration import Calibration
from inference.job import Job
from inference.regions import largest_region
from inference.scene import SceneWatch
from storage.records import Basis, Region, Status, Verdict


@dataclass(frozen=True, slots=True)
class Standard:
    """What a line's frames are held to: one model, one threshold.

    Attributes:
        model: `name@version`.
        threshold: scores above it are rejected.
        calibration: good scores that turn a score into a p-value.
        basis: what that p-value rests on; worked out once, for it takes a while.
        pixel_threshold: value of the detector's own map above which a pixel counts as anomalous; None: no maps.
        slack: what a frame may say against the scene without consequence, as -ln p; None: evidence does not add up.
        watch: tells whether the camera sees what it should; None: nothing is known of that.
    """

    model: str
    threshold: float
    calibration: Calibration
    basis: Basis | None = None
    pixel_threshold: float | None = None
    slack: float | None = None
    watch: SceneWatch | None = None

    def region(self, anomaly_map: NDArray[np.float32]) -> Region | None:
        """Where a map `[h, w]` exceeds the pixel threshold; None: nowhere, or it is no map."""
        if self.pixel_threshold is None or self.calibration.scale is None or anomaly_map.size == 1:
            return None
        return largest_region(anomaly_map, self.pixel_threshold, self.calibration.scale)

    def drawn(self, anomaly_map: NDArray[np.float32]) -> tuple[NDArray[np.float32], float]:
        """A map and the threshold of its pixels, on the scale that all models' maps share.

        A model calibrated by an older version knows no such scale: its map stays as it is, with the score's threshold.
        """
        scale = self.calibration.scale
        if self.pixel_threshold is None or scale is None:
            return anomaly_map, self.threshold
        return scale.apply(anomaly_map), scale.of(self.pixel_threshold)

    def speaks_against(self, verdict: Verdict) -> bool:
        """Whether a frame adds to the evidence against the scene, be it rejected or not."""
        return self.slack is not None and verdict.p_value is not None and -math.log(verdict.p_value) > self.slack


@dataclass(frozen=True, slots=True)
class Judged:
    """A frame with its verdict, on its way to storage."""

    job: Job
    verdict: Verdict
    anomaly_map: NDArray[np.float32] | None = None
    standard: Standard | None = None
    """What it was held to; None: it was not judged."""


def judge(
    job: Job, *, score: float, anomaly_map: NDArray[np.float32], standard: Standard, worker: str, wall_ns: int
) -> Verdict:
    """Hold one score against the line's standard; a score that is not finite is `unknown`, never a `pass`.

    Args:
        job: the frame.
        score: image score, higher is more anomalous.
        anomaly_map: `[h, w]` float32.
        standard: the line's model and threshold.
        worker: who judged.
        wall_ns: now, nanoseconds since the epoch.
    """
    if not math.isfinite(score):
        return unknown(job, reason="score not finite", worker=worker, wall_ns=wall_ns)
    header = job.header
    return Verdict(
        line=header.line,
        run=header.run,
        seq=header.seq,
        status=Status.REJECT if score > standard.threshold else Status.PASS,
        score=score,
        p_value=standard.calibration.p_value(score),
        threshold=standard.threshold,
        model=standard.model,
        map_peak=_peak(anomaly_map),
        region=standard.region(anomaly_map),
        basis=standard.basis,
        part=header.part,
        captured_ns=header.wall_ns,
        judged_ns=wall_ns,
        worker=worker,
    )


def unknown(job: Job, *, reason: str, worker: str, wall_ns: int) -> Verdict:
    """The verdict of a frame that was not inspected."""
    header = job.header
    return Verdict(
        line=header.line,
        run=header.run,
        seq=header.seq,
        status=Status.UNKNOWN,
        reason=reason,
        part=header.part,
        captured_ns=header.wall_ns,
        judged_ns=wall_ns,
        worker=worker,
    )


def _peak(anomaly_map: NDArray[np.float32]) -> tuple[float, float]:
    """Centre of the map's highest cell, as shares of width and height."""
    y, x = np.unravel_index(int(np.argmax(anomaly_map)), anomaly_map.shape)
    height, width = anomaly_map.shape
    return (float(x) + 0.5) / width, (float(y) + 0.5) / height
