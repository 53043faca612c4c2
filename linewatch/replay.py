"""What a line would have said about a recording: camera checks, model, threshold and rules, in stream time.

The same functions as in service, one after the other, without Redis and without a history: to find an alert's settings
on yesterday's video, and to show what they would have done.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np

from alerts.config import AlertRules
from alerts.report.contents import LineReport, Report, Timeline
from alerts.report.period import Period
from alerts.rules import step
from alerts.state import RuleState
from inference.config import JudgeConfig
from inference.engine import Engine
from inference.inspection import Inspection, Inspector
from inference.job import Job
from inference.judge import Judged
from inference.serving import standard_of
from inference.training.report import Report as Progress
from inference.training.report import silent
from ingest.condition import ConditionWatch
from ingest.config import CaptureConfig
from ingest.frame import Condition, Picture, new_run
from ingest.pictures import encode_jpeg
from ingest.preprocess import Preprocessing, prepare
from ingest.wire import FrameHeader
from storage.heatmap import draw
from storage.history import Counts
from storage.records import Alert, Held, Status, Verdict

BEGIN_NS = 946_684_800 * 1_000_000_000
"""Recordings have no clock of their own: they begin on 2000-01-01, and are shown in time since then."""
_NS = 1_000_000_000
_WORKER = "replay"


@dataclass(frozen=True, slots=True)
class Replayed:
    """What came of a recording.

    Attributes:
        line: verdicts per second, alerts with their events, what it was held to.
        frames: how many there were.
        seconds: how long it lasts.
        pictures: evidence of an alert -> JPEG.
    """

    line: LineReport
    frames: int
    seconds: float
    pictures: dict[str, bytes]

    def report(self, *, site: str, made_ns: int) -> Report:
        """The recording as a report, with times since its beginning."""
        end_ns = BEGIN_NS + max(1, round(self.seconds * _NS))
        return Report(site, Period(BEGIN_NS, end_ns), [self.line], made_ns, elapsed=True)


class Replay:
    """One line, ready to look at a recording.

    Args:
        capture: the camera's settings; its `fps` thins the recording as it thins the camera.
        judge: model and promise.
        rules: when verdicts become alerts.
        engine: the loaded model.
        fps: pictures a second of the recording.
        batch: frames judged at once.

    Raises:
        InferenceError: the model is not calibrated, or cannot be held to what is asked.
    """

    def __init__(
        self,
        capture: CaptureConfig,
        judge: JudgeConfig,
        rules: AlertRules,
        *,
        engine: Engine,
        fps: float,
        batch: int = 8,
    ) -> None:
        self._line, self._rules, self._engine, self._fps, self._batch = capture.id, rules, engine, fps, batch
        self._standard = standard_of(engine, judge)
        self._interval = max(1.0, fps / capture.fps) if capture.fps else 1.0
        self._preprocessing: Preprocessing = engine.preprocessing.model_copy(
            update={"roi": capture.roi, "mask": capture.mask}
        )
        self._watch = ConditionWatch(
            frozen_after_s=capture.frozen_after_s,
            dark_below=capture.dark_below,
            overexposed_above=capture.overexposed_above,
        )

    def run(self, pictures: Iterable[Picture | None], report: Progress = silent) -> Replayed:
        """Look at a recording.

        Args:
            pictures: each `[H, W, 3]` uint8 BGR, or None for one that could not be decoded.
            report: told how far the work is.
        """
        seen = _Seen(self._line, self._rules)
        inspector, frames = Inspector(_WORKER), self._frames(pictures)
        while group := list(islice(frames, self._batch)):
            judged = [frame.job.pixels for frame in group if frame.reason is None and frame.job.pixels is not None]
            judgement = self._engine.judge(np.stack(judged)) if judged else None
            for one in inspector.conclude(group, judgement, BEGIN_NS):
                seen.add(one)
            report("replaying", seen.frames, 0)
        return seen.all(seconds=seen.frames * self._interval / self._fps)

    def _frames(self, pictures: Iterable[Picture | None]) -> Iterator[Inspection]:
        """Number, time and check pictures, as capture and worker do."""
        due, seq = 0.0, 0
        for number, picture in enumerate(pictures):
            if number < due - 0.5:
                continue
            due += self._interval
            at_ns = round(number / self._fps * _NS)
            condition = self._watch.observe(picture, at_ns / _NS)
            pixels = None if picture is None else prepare(picture, self._preprocessing)
            if condition is Condition.OK and self._standard.watch is not None and pixels is not None:
                condition = self._standard.watch.look(pixels)
            header = FrameHeader(
                line=self._line,
                run=new_run(BEGIN_NS),
                seq=seq,
                wall_ns=BEGIN_NS + at_ns,
                mono_ns=at_ns,
                shape=(1, 1, 3) if pixels is None else (pixels.shape[0], pixels.shape[1], 3),
                encoding="none" if pixels is None else "raw",
                condition=condition,
            )
            reason = None if condition is Condition.OK else condition.value
            yield Inspection(Job(b"", header, pixels, None), self._standard, reason)
            seq += 1


class _Seen:
    """Follows the verdicts with the rules, and keeps the pictures that alerts show."""

    def __init__(self, line: str, rules: AlertRules) -> None:
        self._rules = rules
        self._state = RuleState(line=line)
        self._alerts: dict[str, Alert] = {}
        self._pictures: dict[str, bytes] = {}
        self._bins: defaultdict[int, Counter[Status]] = defaultdict(Counter)
        self._reasons: Counter[str] = Counter()
        self._held: list[Held] = []
        self.frames = 0

    def add(self, judged: Judged) -> None:
        verdict = judged.verdict
        suspicious = judged.standard is not None and judged.standard.speaks_against(verdict)
        if judged.job.pixels is not None and (verdict.status is not Status.PASS or suspicious):
            verdict = verdict.model_copy(update={"evidence": f"{verdict.run}-{verdict.seq}"})
        self._state, transitions = step(self._state, verdict, self._rules)
        changed = {t.alert.id: t.alert for t in transitions} | {a.id: a for a in self._state.open.values()}
        self._alerts |= changed
        if verdict.evidence and any(verdict.evidence in (a.evidence, a.worst_evidence) for a in changed.values()):
            self._pictures[verdict.evidence] = _picture(judged)
        self._count(verdict)

    def all(self, *, seconds: float) -> Replayed:
        alerts = sorted(self._alerts.values(), key=lambda alert: alert.raised_ns)
        shown = {name for alert in alerts for name in (alert.evidence, alert.worst_evidence)}
        line = LineReport(
            self._state.line,
            timeline=Timeline(
                {
                    second: Counts(c[Status.PASS], c[Status.REJECT], c[Status.UNKNOWN])
                    for second, c in self._bins.items()
                },
                bin_ns=_NS,
            ),
            reasons=self._reasons,
            alerts=alerts,
            held=self._held,
        )
        pictures = {name: picture for name, picture in self._pictures.items() if name in shown}
        return Replayed(line, self.frames, seconds, pictures)

    def _count(self, verdict: Verdict) -> None:
        self.frames += 1
        self._bins[verdict.captured_ns // _NS][verdict.status] += 1
        if verdict.reason is not None:
            self._reasons[verdict.reason] += 1
        if self._state.held is not None and self._state.held not in self._held:
            self._held.append(self._state.held)


def _picture(judged: Judged) -> bytes:
    """What an operator would be shown: the frame and where it differs."""
    pixels, standard, found = judged.job.pixels, judged.standard, judged.anomaly_map
    assert pixels is not None  # noqa: S101 - only frames with pixels have evidence
    if standard is None or found is None or found.size == 1:
        return encode_jpeg(np.ascontiguousarray(pixels[..., ::-1]))
    region = judged.verdict.region
    drawn, threshold = standard.drawn(found)
    return encode_jpeg(draw(pixels, drawn, threshold, box=None if region is None else region.box))
