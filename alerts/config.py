"""When an alert is raised, where it is told, where it is shown."""

import re
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}


def seconds(value: Any) -> float:
    """Read `5s`, `500ms`, `8h`, `2 min` or a plain number of seconds."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|min|m|h|d)\s*", str(value))
    if match is None:
        raise ValueError(f"{value!r} is no duration: write 5s, 500ms, 2min or 8h")
    return float(match[1]) * _UNITS[match[2]]


Seconds = Annotated[float, BeforeValidator(seconds), Field(ge=0)]


class RaiseRule(BaseModel):
    """Raise after `k` rejects among the last `n` verdicts."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    k: Annotated[int, Field(ge=1)] = 1
    n: Annotated[int, Field(ge=1, le=10000)] = 1

    @model_validator(mode="before")
    @classmethod
    def _read(cls, value: Any) -> Any:
        """Read the short form `3 of 5`."""
        if not isinstance(value, str):
            return value
        match = re.fullmatch(r"\s*(\d+)\s+of\s+(\d+)\s*", value)
        if match is None:
            raise ValueError(f"{value!r} is no rule: write `3 of 5`")
        return {"k": int(match[1]), "n": int(match[2])}

    @model_validator(mode="after")
    def _check(self) -> "RaiseRule":
        if self.k > self.n:
            raise ValueError(f"`{self.k} of {self.n}` can never be reached")
        return self


class AlertRules(BaseModel):
    """When one line's verdicts become alerts."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    raise_: RaiseRule = Field(default=RaiseRule(), alias="raise")
    """A defect alert is raised after k rejects among the last n verdicts: `3 of 5`."""
    clear_after: Seconds = 5.0
    """Cleared when no reject was seen for this long."""
    cool_down: Seconds = 0.0
    """After a clear, no new alert of the same kind for this long."""
    unknown_streak: Annotated[int, Field(ge=0)] = 10
    """This many `unknown` in a row raise an alert of their own; 0: never."""
    silent_after: Seconds = 10.0
    """No sign of life for this long raises `line_silent`; 0: never."""


class SinkConfig(BaseModel):
    """One place alerts are delivered to."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: str
    """`log:`, `json://HOST[:PORT]/PATH`, `jsons://…` (webhook over http/https), `mqtt://[USER:PASS@]HOST[:PORT]/TOPIC`."""
    on: tuple[Annotated[str, Field(pattern="^(raised|cleared|acknowledged)$")], ...] = ("raised", "cleared")
    """Transitions to deliver."""
    timeout: Seconds = 5.0
    """Bound on one attempt."""


class PageConfig(BaseModel):
    """The operators' page."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bind: Annotated[str, Field(pattern=r"^[^:]+:\d{1,5}$")] = "127.0.0.1:8700"
    """`HOST:PORT`; port 0 takes a free one."""


class AlertsConfig(BaseModel):
    """The alert service."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    page: PageConfig | None = PageConfig()
    """None: no page."""
    sinks: tuple[SinkConfig, ...] = (SinkConfig(url="log:"),)
    """Where alerts are delivered."""
    start_grace: Seconds = 45.0
    """After its own start the service waits this much longer for a line's first sign of life: workers load models."""
