"""What a worker must be told."""

from datetime import time
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from inference.false_alarms import FalseAlarms
from ingest.config import LineId


class WorkerConfig(BaseModel):
    """One inference process."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
    """Name of the worker, for people and heartbeats."""
    bind: str | None = None
    """`ipc://PATH` or `tcp://HOST:PORT` (encrypted with CURVE). None: an ipc socket of its own."""
    device: str = "auto"
    """`auto`, `cpu`, `cuda`, `cuda:1`."""
    max_batch: Annotated[int, Field(ge=1, le=1024)] = 8
    """Most frames judged at once."""
    threads: Annotated[int, Field(ge=0)] = 0
    """CPU threads of the detector; 0: all cores."""


class JudgeConfig(BaseModel):
    """How frames of one line are judged."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    line: LineId
    model: str
    """`NAME` (its promoted version, swapped while running when another is promoted) or `NAME@3`."""
    false_alarms: FalseAlarms
    """How many false alarms are accepted."""
    fps: Annotated[float, Field(gt=0)] | None = None
    """Judged frames a second, as far as known."""
    slack: float | None = None
    """Slack of the evidence that adds up over frames (`alert.cusum.slack`); None: the line does not use it."""
    golden_blocks: bool = False
    """Frames are `unknown` while a golden sample of the line is missed."""
    shifts: tuple[time, ...] = ()
    """Local times of day at which a shift begins: golden samples are shown then."""
    roi: tuple[int, int, int, int] | None = None
    """Region of interest `[x0, y0, x1, y1]` that capture cuts out: golden samples are cut the same way."""
    mask: tuple[tuple[int, int], ...] | None = None
    """Polygon outside of which capture paints the picture grey: golden samples are painted the same way."""
