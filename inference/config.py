"""What a worker must be told."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

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
    false_alarm_rate: Annotated[float, Field(gt=0, lt=1)]
    """Share of good frames that may be rejected: what `false_alarms` comes to per frame."""
