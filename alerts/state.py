"""What is remembered of one line, and what is known of it besides its verdicts."""

from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator

from alerts.camera import Fitness
from alerts.drift import Drift
from alerts.evidence import Evidence
from alerts.golden import Shown
from storage.records import Alert, AlertKind, Held, Transition


class RuleState(BaseModel):
    """All that the rules remember of one line; survives as JSON."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    line: str
    runs: tuple[str, ...] = ()
    """Runs that were current, the present one last."""
    contender: tuple[str, int] | None = None
    """A run that sorts before the current one, and how many verdicts of it came in a row."""
    seq: int = -1
    """Highest number of the current run that somebody has looked at."""
    clock_ns: int = 0
    """Stream time: when that frame was captured."""
    tick_ns: int = 0
    """Wall clock of the last tick."""
    evidence: Evidence = Evidence()
    fitness: Fitness = Fitness()
    drift: Drift | None = None
    """None until a verdict has a p-value with its basis."""
    shown: tuple[Shown, ...] = ()
    """Golden samples: results of each worker's last showing, oldest first."""
    showings: int = 0
    """Alerts of golden samples so far: what names the next one."""
    held: Held | None = None
    """Model and threshold of the newest judged frame."""
    streak: int = 0
    """Verdicts `unknown` in a row."""
    streak_ns: int = 0
    """When the first of them was captured."""
    open: dict[AlertKind, Alert] = {}
    cool_until_ns: dict[AlertKind, int] = {}
    """No new alert of this kind before this time."""
    last_ids: dict[AlertKind, tuple[str, int]] = {}
    """The frame that named the last alert of a kind, and how many alerts it has named."""

    @model_validator(mode="before")
    @classmethod
    def _of_older_versions(cls, data: Any) -> Any:
        """Read the state of a version that knew rejects only, so that its open alerts are still cleared by this one."""
        if isinstance(data, dict) and "last_reject_ns" in data:
            data = dict(data)
            last_ns = data.pop("last_reject_ns")
            data["evidence"] = {"recent": data.pop("recent", ""), "last_ns": last_ns}
        return data


@dataclass(frozen=True, slots=True)
class Signs:
    """What is known of a line besides its verdicts. Durations are measured with a monotonic clock.

    Attributes:
        silent_s: seconds since the last sign of life (beat or verdict).
        calm_s: seconds since the last verdict was handled.
        in_flight: frames captured that have no verdict yet.
        camera: condition of the camera as capture last reported it.
        run: the current run, None when the line was never heard of.
        seq: the last frame captured in it.
    """

    silent_s: float = 0.0
    calm_s: float = 0.0
    in_flight: int = 0
    camera: str = "ok"
    run: str | None = None
    seq: int = 0


Outcome = tuple[RuleState, list[Transition]]
"""The new state and what changed, in order."""
