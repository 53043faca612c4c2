"""From score to verdict. Pure, and the only place where a `pass` is made."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inference.calibration import Calibration
from inference.job import Job
from storage.records import Status, Verdict


@dataclass(frozen=True, slots=True)
class Standard:
    """What a line's frames are held to: one model, one threshold.

    Attributes:
        model: `name@version`.
        threshold: scores above it are rejected.
        calibration: good scores that turn a score into a p-value.
    """

    model: str
    threshold: float
    calibration: Calibration


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
