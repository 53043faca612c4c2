"""The nouns that outlive a process: Verdict, LineState, Alert."""

import math
from enum import StrEnum
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Status(StrEnum):
    """How an inspected frame ended. There is no fourth way."""

    PASS = "pass"  # noqa: S105 - a verdict, not a password
    REJECT = "reject"
    UNKNOWN = "unknown"


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


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
