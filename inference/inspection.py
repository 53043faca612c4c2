"""From what a detector says of a batch to its verdicts, in order of time.

One thread, fed in the order in which frames were captured: what smooths maps over time lives here.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from inference.engine import Judgement
from inference.job import Job
from inference.judge import Judged, Standard, judge, unknown
from inference.smoothing import LineSmoother
from ingest.frame import Condition

UNFIT = frozenset(condition.value for condition in Condition)


@dataclass(frozen=True, slots=True)
class Inspection:
    """One frame on its way through the detector, or past it.

    Attributes:
        job: the frame.
        standard: what it is held to; None: its line has no model.
        reason: why it is not judged; None: it is.
    """

    job: Job
    standard: Standard | None
    reason: str | None = None


class Inspector:
    """Makes the verdicts of one worker.

    Args:
        name: of the worker, in verdicts.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._smoothers: dict[str, tuple[Standard, LineSmoother]] = {}

    def conclude(self, frames: Sequence[Inspection], judgement: Judgement | None, wall_ns: int) -> list[Judged]:
        """Verdicts of frames in order of time.

        Args:
            frames: judged ones and others.
            judgement: of those without a reason, in order; None: the detector failed, or there are none.
            wall_ns: when they were judged, nanoseconds since the epoch.
        """
        answers = iter([] if judgement is None else zip(judgement.scores, judgement.maps, strict=True))
        concluded = []
        for frame in frames:
            if frame.reason is not None or frame.standard is None or judgement is None:
                concluded.append(self._refuse(frame, frame.reason or "detector failed", wall_ns))
                continue
            score, anomaly_map = next(answers)
            smoother = self._smoother(frame.job.header.line, frame.standard)
            anomaly_map, score = smoother.add(frame.job.header, anomaly_map, float(score))
            verdict = judge(
                frame.job,
                score=score,
                anomaly_map=anomaly_map,
                standard=frame.standard,
                worker=self._name,
                wall_ns=wall_ns,
            )
            concluded.append(Judged(frame.job, verdict, anomaly_map, frame.standard))
        return concluded

    def _refuse(self, frame: Inspection, reason: str, wall_ns: int) -> Judged:
        if frame.standard is not None and reason in UNFIT:
            self._smoother(frame.job.header.line, frame.standard).interrupt(frame.job.header)
        return Judged(frame.job, unknown(frame.job, reason=reason, worker=self._name, wall_ns=wall_ns))

    def _smoother(self, line: str, standard: Standard) -> LineSmoother:
        """The line's average; that of another model, or of one calibrated anew, begins anew."""
        held, smoother = self._smoothers.get(line, (None, None))
        if smoother is None or held is not standard:
            calibration = standard.calibration
            smoother = LineSmoother(calibration.smoothing, frame_s=calibration.frame_s)
            self._smoothers[line] = standard, smoother
        return smoother
