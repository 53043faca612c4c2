"""Golden samples shown to one model: a detector that no longer sees what it must see is found out.

A sample takes the way of a frame: prepared with the line's region and mask, judged by the engine in service, held to
the line's threshold. What cannot be read or judged is `unknown`, and that is missed. Samples are single pictures: each
counts as the first frame of a stretch, whose map is its own average, and whether the camera was fit is not asked.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import structlog

from inference.config import JudgeConfig
from inference.engine import Engine
from inference.job import Job
from inference.judge import Standard, judge
from inference.smoothing import Map, Smoother
from ingest.errors import IngestError
from ingest.pictures import decode_picture
from ingest.preprocess import RGB, Preprocessing, prepare
from ingest.wire import FrameHeader
from ingest.workerlink import View
from storage.errors import StorageError
from storage.golden import UNLISTED, GoldenSamples, Sample
from storage.records import Challenge, Status, Verdict

BATCH = 4
"""Samples judged at once: few, because frames of the lines wait for the same cores."""
_RUN = "0" * 16  # a sample belongs to no run

log = structlog.get_logger()


def challenge_model(
    engine: Engine | None,
    standard: Standard | None,
    samples: GoldenSamples,
    line: JudgeConfig,
    *,
    worker: str,
    occasion: str,
    now_ns: int,
) -> list[Challenge]:
    """Show all samples of a line to a model; no error gets out of it, each becomes a missed sample.

    Args:
        engine: the model; None: the line has none, and every sample is missed.
        standard: what the line's frames are held to, see `inference.serving`.
        samples: of all lines.
        line: which line, with its region and mask.
        worker: who shows them.
        occasion: why, see `inference.occasions`.
        now_ns: wall clock, nanoseconds since the epoch.

    Returns:
        One result per sample, all of the same time, those missed first; empty when the line has none. An index that
        cannot be read is one result, too: a missed one.
    """
    examination = _Examination(line, worker, occasion, now_ns, engine, standard)
    try:
        listed = samples.of(line.line)
    except StorageError as error:
        unlisted = Sample.model_construct(name=UNLISTED, expected="reject", sha256="", added_ns=0)
        return [examination.result(unlisted, str(error))]
    results: list[Challenge] = []
    for first in range(0, len(listed), BATCH):
        results += examination.show(samples, listed[first : first + BATCH])
    return sorted(results, key=lambda result: not result.missed)


@dataclass(frozen=True, slots=True)
class _Examination:
    line: JudgeConfig
    worker: str
    occasion: str
    at_ns: int
    engine: Engine | None
    standard: Standard | None

    def show(self, samples: GoldenSamples, group: Sequence[Sample]) -> list[Challenge]:
        if self.engine is None or self.standard is None:
            return [self.result(sample, "no model") for sample in group]
        prepared = [_prepared(samples, self.line, sample, self.engine.preprocessing) for sample in group]
        pictures = [picture for picture in prepared if isinstance(picture, np.ndarray)]
        verdicts = iter(self._judge(self.engine, self.standard, pictures))
        return [
            self.result(sample, picture if isinstance(picture, str) else next(verdicts))
            for sample, picture in zip(group, prepared, strict=True)
            if picture is not None
        ]

    def result(self, sample: Sample, outcome: Verdict | str) -> Challenge:
        """What became of a sample: a verdict, or why there is none."""
        judged = None if isinstance(outcome, str) else outcome
        return Challenge(
            line=self.line.line,
            image=sample.name,
            expected=sample.expected,
            status=Status.UNKNOWN if judged is None else judged.status,
            reason=outcome if isinstance(outcome, str) else outcome.reason,
            score=None if judged is None else judged.score,
            threshold=None if self.standard is None else self.standard.threshold,
            model=None if self.engine is None else self.engine.ref,
            worker=self.worker,
            occasion=self.occasion,
            at_ns=self.at_ns,
        )

    def _judge(self, engine: Engine, standard: Standard, pictures: Sequence[RGB]) -> Sequence[Verdict | str]:
        if not pictures:
            return []
        try:
            judgement = engine.judge(np.stack(pictures), threads=1)
        except Exception:  # whatever a detector throws, its samples are missed and the line goes on
            log.exception("detector failed", model=engine.ref, golden_samples=len(pictures))
            return ["detector failed"] * len(pictures)
        return [
            self._hold(standard, picture, float(score), heat)
            for picture, score, heat in zip(pictures, judgement.scores, judgement.maps, strict=True)
        ]

    def _hold(self, standard: Standard, picture: RGB, score: float, heat: Map) -> Verdict:
        """Hold one picture against the line's standard, as the first frame of a stretch is."""
        height, width = picture.shape[:2]
        header = FrameHeader(
            line=self.line.line, run=_RUN, seq=0, wall_ns=self.at_ns, mono_ns=0, shape=(height, width, 3)
        )
        heat, score = Smoother(standard.calibration.smoothing).add(heat, score)
        return judge(
            Job(peer=b"", header=header, pixels=picture, deadline=None),
            score=score,
            anomaly_map=heat,
            standard=standard,
            worker=self.worker,
            wall_ns=self.at_ns,
        )


def _prepared(
    samples: GoldenSamples, line: JudgeConfig, sample: Sample, preprocessing: Preprocessing
) -> RGB | str | None:
    """A sample as capture would send it, or why not; None: it was removed meanwhile."""
    try:
        data = samples.picture(line.line, sample)
        if data is None:
            return None
        view = View(roi=line.roi, mask=line.mask).apply(preprocessing)
        return prepare(decode_picture(data, f"golden sample {sample.name}"), view)
    except (StorageError, IngestError) as error:
        return str(error)
