"""When an alert is raised, where it is told, where it is shown."""

import ipaddress
import re
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

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


def share(value: Any) -> float:
    """Read `0.5%` or a plain number between 0 and 1."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?(?:e-?\d+)?)\s*(%?)\s*", str(value))
    if match is None or isinstance(value, bool):
        raise ValueError(f"{value!r} is no share: write 0.5% or 0.005")
    return float(match[1]) / (100 if match[2] else 1)


Share = Annotated[float, BeforeValidator(share), Field(ge=0, lt=1)]


class Cusum(BaseModel):
    """Evidence that adds up over frames: S = max(0, S - ln p - slack), a defect once S exceeds the calibrated limit."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    slack: Annotated[float, Field(gt=1, le=10)] = 1.5
    """What a frame may say against a good scene without consequence; good frames average 1 (Page, 1954)."""


class AlertRules(BaseModel):
    """When one line's verdicts become alerts."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    raise_: RaiseRule = Field(default=RaiseRule(), alias="raise")
    """A defect alert is raised after k rejects among the last n verdicts: `3 of 5`."""
    min_area: Share = 0.0
    """A reject counts only if its largest region covers this share of the inspected region: `0.5%`. One without a
    region counts."""
    min_duration: Seconds = 0.0
    """Raised only once the evidence has lasted this long in stream time."""
    cusum: Cusum | None = None
    """Also raise on weak evidence that adds up; for video lines. None: off."""
    hold: Share = 0.0
    """An open defect goes on while p-values are at most this, though no frame is rejected any more; 0: off."""
    clear_after: Seconds = 5.0
    """A defect is cleared this long after its last frame."""
    cool_down: Seconds = 0.0
    """After a clear, no new alert of the same kind for this long."""
    unknown_streak: Annotated[int, Field(ge=0)] = 10
    """This many `unknown` in a row raise an alert of their own, unless for the camera's condition; 0: never."""
    silent_after: Seconds = 10.0
    """No sign of life for this long raises `line_silent`; 0: never."""
    unfit_after: Seconds = 0.5
    """Raised when the camera has been unfit (dark, moved, blurred, …) for this long in stream time, as one alert.
    Frozen is raised at once: capture has waited already."""
    fit_after: Seconds = 1.0
    """Cleared when it has been fit for this long."""
    drift: Share = 0.001
    """Raise `drift` when scores are no longer those of the calibration: probability that it is ever raised while
    nothing has changed; 0: never."""


class SinkConfig(BaseModel):
    """One place alerts are delivered to."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: str
    """`log:`, `json://HOST[:PORT]/PATH`, `jsons://…` (webhook over http/https), `mqtt://[USER:PASS@]HOST[:PORT]/TOPIC`."""
    on: tuple[Annotated[str, Field(pattern="^(raised|cleared|acknowledged)$")], ...] = ("raised", "cleared")
    """Transitions to deliver."""
    timeout: Seconds = 5.0
    """Bound on one attempt."""


def _network(value: str) -> str:
    """Read `10.0.0.5` or `10.0.0.0/8`."""
    try:
        return str(ipaddress.ip_network(value))
    except ValueError as error:
        raise ValueError(f"{value!r} is no address or network: write 10.0.0.5 or 10.0.0.0/8") from error


class PageConfig(BaseModel):
    """The operators' page."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bind: Annotated[str, Field(pattern=r"^[^:]+:\d{1,5}$")] = "127.0.0.1:8700"
    """`HOST:PORT`; port 0 takes a free one."""
    open: bool = False
    """While there are no accounts, everybody who reaches the page may look and act, also from other machines."""
    hosts: tuple[Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,253}$")], ...] = ()
    """Names by which browsers call the page, besides `localhost`, this machine's name and its addresses."""
    proxies: tuple[Annotated[str, AfterValidator(_network)], ...] = ()
    """Addresses or networks of reverse proxies whose `X-Forwarded-For` and `X-Forwarded-Proto` are believed."""
    idle: Annotated[Seconds, Field(gt=0)] = 8 * 3600.0
    """A login ends when nothing was pressed for this long."""
    session: Annotated[Seconds, Field(gt=0)] = 24 * 3600.0
    """A login ends this long after it began."""


class AlertsConfig(BaseModel):
    """The alert service."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    page: PageConfig | None = PageConfig()
    """None: no page."""
    sinks: tuple[SinkConfig, ...] = (SinkConfig(url="log:"),)
    """Where alerts are delivered."""
    start_grace: Seconds = 45.0
    """After its own start the service waits this much longer for a line's first sign of life: workers load models."""
