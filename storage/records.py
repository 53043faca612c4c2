"""The nouns that outlive a process: Verdict, LineState, Alert."""

import math
from enum import StrEnum
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Status(StrEnum):
    """How an inspected frame ended. There is no fourth way."""

    PASS = "pass"  # noqa: S105 - a verdict, not a password
    REJECT = "reject"
    UNKNOWN = "unknown"


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Region(_Record):
    """Where a picture differs: the largest connected region above the pixel threshold."""

    box: tuple[float, float, float, float]
    """x0, y0, x1, y1 as shares of the inspected region, 0 to 1."""
    area: float = Field(gt=0, le=1)
    """Share of the inspected region it covers."""
    peak: float
    """Highest value in it, on the scale that all models' maps share: 0 is usual, 0.1 rare, see `inference.mapscale`."""


class Basis(_Record):
    """What a p-value rests on."""

    n: int = Field(ge=1)
    """Calibration scores."""
    block_s: float | None = Field(default=None, gt=0)
    """Seconds of video each of them is the highest of; None: each is one image."""
    limit: float | None = None
    """Accumulated evidence (CUSUM of -ln p) that good frames reach as rarely as the threshold; None: not asked for."""


class Verdict(_Record):
    """What became of one frame.

    The record itself refuses what must not exist: a `pass` or `reject` without a finite score, a threshold and the
    model that gave them, and an `unknown` without a reason.
    """

    line: str
    run: str
    seq: int = Field(ge=0)
    status: Status
    reason: str | None = None
    """Why it is `unknown`: late, lost, overflow, frozen, dark, corrupt, no model, not finite, …"""
    score: float | None = None
    p_value: float | None = Field(default=None, ge=0, le=1)
    """Share of good calibration scores at least this high, conformal: small means anomalous."""
    threshold: float | None = None
    model: str | None = None
    """`name@version`."""
    map_peak: tuple[float, float] | None = None
    """Where the anomaly map is highest: x and y as shares of the inspected region, 0 to 1."""
    region: Region | None = None
    """None: nothing is above the pixel threshold, or the detector gives no map."""
    basis: Basis | None = None
    """What `p_value` rests on; None where there is none."""
    part: str | None = None
    captured_ns: int
    """Wall clock, nanoseconds since the epoch."""
    judged_ns: int
    """Wall clock, nanoseconds since the epoch."""
    worker: str | None = None
    evidence: str | None = None
    """Folder of the pictures, relative to the evidence store."""

    @property
    def id(self) -> str:
        """`line/run/seq`: names a frame once and for all."""
        return f"{self.line}/{self.run}/{self.seq}"

    @model_validator(mode="after")
    def _refuse_unfounded(self) -> Self:
        if self.status is Status.UNKNOWN:
            if not self.reason:
                raise ValueError(f"verdict {self.id}: unknown without a reason")
        elif self.score is None or self.threshold is None or not self.model or not math.isfinite(self.score):
            raise ValueError(f"verdict {self.id}: {self.status} without a finite score, a threshold and a model")
        return self


class LineState(_Record):
    """What is known of one line right now; counters run over all its runs."""

    line: str
    captured: int = 0
    passed: int = 0
    rejected: int = 0
    unknown: int = 0
    skipped: int = 0
    run: str | None = None
    next_seq: int = 0
    """Frames captured so far in `run`."""
    camera: str = "ok"
    """Condition of the camera as capture last reported it: ok, frozen, dark, lost, ended."""
    status: Status | None = None
    score: float | None = None
    p_value: float | None = None
    threshold: float | None = None
    model: str | None = None
    beat_ns: int = 0
    """Wall clock of the last sign of life, nanoseconds since the epoch."""
    verdict_ns: int = 0
    """Wall clock of the last verdict, nanoseconds since the epoch."""

    @property
    def open(self) -> int:
        """Frames captured that have no verdict yet; 0 once a run has ended and everything is accounted for."""
        return self.captured - self.passed - self.rejected - self.unknown - self.skipped


class AlertKind(StrEnum):
    """What an alert says; each kind has its own text and its own mend."""

    DEFECT = "defect"
    UNKNOWN_STREAK = "unknown_streak"
    LINE_SILENT = "line_silent"
    CAMERA_FROZEN = "camera_frozen"
    CAMERA_DARK = "camera_dark"
    CAMERA_LOST = "camera_lost"
    CAMERA_OVEREXPOSED = "camera_overexposed"
    CAMERA_LIGHT = "camera_light"
    CAMERA_BLURRED = "camera_blurred"
    CAMERA_MOVED = "camera_moved"
    CAMERA_OCCLUDED = "camera_occluded"
    DRIFT = "drift"
    GOLDEN_MISSED = "golden_missed"


class Label(StrEnum):
    """What an operator says of an alert."""

    TRUE_DEFECT = "true_defect"
    FALSE_ALARM = "false_alarm"
    KNOWN_VARIATION = "known_variation"


class Alert(_Record):
    """One thing an operator should know, from its raise to its clear."""

    id: str
    """`line/run/seq/kind` of the frame that raised it (for a silent line, of the last frame heard of): replaying the
    verdicts gives the same id, so a repeated delivery is recognisable."""
    line: str
    kind: AlertKind
    text: str
    raised_ns: int
    cleared_ns: int | None = None
    acknowledged_ns: int | None = None
    acknowledged_by: str | None = None
    verdict: str | None = None
    """Id of the verdict that raised it."""
    evidence: str | None = None
    score: float | None = None
    p_value: float | None = None
    threshold: float | None = None
    model: str | None = None
    count: int = 1
    """Verdicts that belong to this alert so far."""
    started_ns: int | None = None
    """When the first frame of the event was captured: before the raise, where evidence had to add up."""
    ended_ns: int | None = None
    """When the last frame of the event so far was captured."""
    worst_verdict: str | None = None
    """Id of the event's most anomalous frame so far."""
    worst_score: float | None = None
    worst_evidence: str | None = None
    """Pictures of the most anomalous frame that has some."""
    label: Label | None = None
    """What an operator last said of it."""
    labelled_ns: int | None = None
    labelled_by: str | None = None


class Challenge(_Record):
    """One golden sample shown to a running model, and how it answered."""

    line: str
    image: str
    """Name of the sample."""
    expected: Literal["pass", "reject"]
    status: Status
    reason: str | None = None
    """Why it is `unknown`."""
    score: float | None = None
    threshold: float | None = None
    model: str | None = None
    worker: str
    occasion: str
    """`start`, `shift`, `asked`, `promoted`, `learn`."""
    at_ns: int
    """Wall clock, nanoseconds since the epoch."""

    @property
    def missed(self) -> bool:
        """Whether the model did not judge as a person had said it must."""
        return self.status != self.expected


class Held(_Record):
    """What a line was held to from a time on, until the next one."""

    line: str
    since_ns: int
    """Time of capture of the first frame judged so."""
    model: str
    threshold: float
    n_good: int | None = None
    """Calibration scores the threshold rests on."""


class Change(StrEnum):
    """What happened to an alert."""

    RAISED = "raised"
    CLEARED = "cleared"
    ACKNOWLEDGED = "acknowledged"


class Transition(_Record):
    """One change of one alert, and the alert as it is after it."""

    change: Change
    alert: Alert
    at_ns: int
    """When it happened: wall clock, nanoseconds since the epoch; for what verdicts decide, the time of capture."""
