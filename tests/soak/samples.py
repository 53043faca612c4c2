"""What is measured every few seconds, as it is kept in `samples.jsonl`."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class Process:
    """One process at one moment.

    Attributes:
        pid: so that a successor is not taken for the one before it.
        rss_mb, uss_mb: resident memory, and that of it which no other process shares.
        fds: open file descriptors, without those that were open for a moment only.
        threads: likewise.
        cpu_s: processor time since its start.
    """

    pid: int
    rss_mb: float
    uss_mb: float
    fds: int
    threads: int
    cpu_s: float


@dataclass(frozen=True, slots=True)
class Sample:
    """Everything at one moment, `at_s` seconds after the first frame was judged. Sizes in megabytes."""

    at_s: float
    roles: dict[str, Process]
    evidence_mb: float = 0.0
    redis_mb: float = 0.0
    stream: int = 0
    keys: int = 0
    aof_mb: float = 0.0
    history_mb: float = 0.0
    wal_mb: float = 0.0
    log_mb: float = 0.0
    restarts: int = 0
    frames: int = 0
    lost: int = 0
    """Frames that ended as `unknown` or as a counted skip: what the load was too much for."""

    def line(self) -> str:
        """As one line of JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def read(cls, line: str) -> Self:
        """The inverse of `line`."""
        kept: dict[str, Any] = json.loads(line)
        return cls(**{**kept, "roles": {role: Process(**known) for role, known in kept["roles"].items()}})


@dataclass(slots=True)
class SampleFile:
    """Samples as they are taken: also on disk, so that a run that was cut off can be looked at."""

    path: Path
    samples: list[Sample] = field(default_factory=list)

    def add(self, sample: Sample) -> None:
        """Keep one more."""
        self.samples.append(sample)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(sample.line() + "\n")


def read(lines: Iterable[str]) -> list[Sample]:
    """Samples of an earlier run."""
    return [Sample.read(line) for line in lines if line.strip()]
