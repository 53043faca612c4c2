"""linewatch.yaml: one frozen tree, cut into the slices that each process is told.

Relative paths resolve against the folder of the file, so that a process means the same place wherever it is started.
A problem is one line with its place: `linewatch.yaml: lines[0].polcy: unknown key; did you mean policy?`
"""

import re
from datetime import time
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator

from alerts.config import AlertRules, AlertsConfig
from inference.config import JudgeConfig, WorkerConfig
from inference.false_alarms import parse_false_alarms
from ingest.config import CaptureConfig
from linewatch.complaints import complaints
from linewatch.errors import ConfigError
from linewatch.sockets import default_endpoint, reachable, resolve_endpoint
from linewatch.yamlfile import read_yaml
from storage.config import RetentionConfig, StorageConfig

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")
_SQLITE = "sqlite:///"
_MODEL = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}(@[1-9]\d*)?$"


class WorkerEntry(WorkerConfig):
    """One worker, and how captures reach it."""

    connect: str | None = None
    """`tcp://HOST:PORT` for captures where it differs from `bind`: the worker binds a wildcard, or has another name."""

    @field_validator("bind", "connect")
    @classmethod
    def _resolve(cls, endpoint: str | None, info: ValidationInfo) -> str | None:
        return None if endpoint is None else resolve_endpoint(endpoint, _folder(info))

    def slice(self) -> WorkerConfig:
        """What the worker itself is told."""
        return WorkerConfig.model_validate(self.model_dump(exclude={"connect"}))


class GoldenConfig(BaseModel):
    """What the golden samples of a line decide; `linewatch golden` records and shows them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    block: bool = False
    """While one is missed, frames are `unknown` instead of judged by a model that has failed its test."""


class LineConfig(CaptureConfig):
    """One line: its camera, its model, its promise about false alarms, its alerts."""

    model: Annotated[str, Field(pattern=_MODEL)]
    """`NAME` (its promoted version) or `NAME@3`."""
    false_alarms: str = "1%"
    """`1 per 8h` (needs `fps`), `5%`, `10ppm`, `1 in 1000`."""
    alert: AlertRules = AlertRules()
    """When its verdicts become alerts."""
    golden: GoldenConfig = GoldenConfig()
    """What its golden samples decide."""
    remote: bool = False
    """Its camera hangs on another host, where `linewatch capture` runs: `up` here starts no capture for it."""

    @field_validator("source")
    @classmethod
    def _resolve(cls, source: str, info: ValidationInfo) -> str:
        """Put a relative file or folder beside the configuration; `rtsp://…`, `usb:0`, `synthetic:belt` stay."""
        if not source.strip():
            raise ValueError("is empty: name a camera, a file or a folder")
        if _SCHEME.match(source) or source.startswith("/"):
            return source
        return f"{_folder(info)}/{source.removeprefix('./')}"

    @field_validator("roi")
    @classmethod
    def _not_empty(cls, roi: tuple[int, int, int, int] | None) -> tuple[int, int, int, int] | None:
        if roi is not None and not (0 <= roi[0] < roi[2] and 0 <= roi[1] < roi[3]):
            raise ValueError(f"{list(roi)} must be [x0, y0, x1, y1] with 0 <= x0 < x1 and 0 <= y0 < y1")
        return roi

    @field_validator("mask")
    @classmethod
    def _a_polygon(cls, mask: tuple[tuple[int, int], ...] | None) -> tuple[tuple[int, int], ...] | None:
        if mask is not None and len(mask) < 3:
            raise ValueError(f"has {len(mask)} corners: a polygon needs at least 3")
        return mask

    @field_validator("false_alarms", mode="before")
    @classmethod
    def _plain_number(cls, value: Any) -> Any:
        return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value

    def slice(self) -> CaptureConfig:
        """What the capture of this line is told."""
        return CaptureConfig.model_validate(self.model_dump(include=set(CaptureConfig.model_fields)))


class Config(BaseModel):
    """All of linewatch.yaml."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    site: Annotated[str, Field(min_length=1, max_length=128)] = "linewatch"
    """Name of the place, for people."""
    data: Path
    """Folder of everything kept on disk: history, evidence, models, keys."""
    redis: str = "embedded"
    """`embedded`, or `redis://…`, `rediss://…`, `unix://…`."""
    history: str | None = None
    """SQLAlchemy URL of alert history; None: SQLite in `data`."""
    retention: RetentionConfig = RetentionConfig()
    """Bounds on the evidence kept."""
    workers: Annotated[tuple[WorkerEntry, ...], Field(min_length=1)] = (WorkerEntry(name="w0"),)
    """Inference processes; each line's frames may go to any of them."""
    lines: Annotated[tuple[LineConfig, ...], Field(min_length=1)]
    """Cameras and how each is judged."""
    alerts: AlertsConfig = AlertsConfig()
    """The operators' page and where alerts are delivered."""
    shifts: tuple[time, ...] = (time(6), time(14), time(22))
    """Local times of day at which shifts begin: golden samples are shown then, and reports are cut there."""

    @field_validator("data")
    @classmethod
    def _absolute(cls, data: Path, info: ValidationInfo) -> Path:
        return (_folder(info) / data.expanduser()).resolve()

    @field_validator("redis")
    @classmethod
    def _known_scheme(cls, redis: str) -> str:
        if redis != "embedded" and not redis.startswith(("redis://", "rediss://", "unix://")):
            raise ValueError("should be `embedded`, redis://…, rediss://… or unix://…")
        return redis

    @field_validator("history")
    @classmethod
    def _beside_the_file(cls, history: str | None, info: ValidationInfo) -> str | None:
        if history is None or not history.startswith(_SQLITE):
            return history
        return f"{_SQLITE}{_folder(info) / history.removeprefix(_SQLITE)}"

    @model_validator(mode="after")
    def _unique(self) -> Self:
        _refuse_twins("workers", "name", [worker.name for worker in self.workers])
        _refuse_twins("lines", "id", [line.id for line in self.lines])
        bound = [worker.bind or worker.name for worker in self.workers]
        _refuse_twins("workers", "bind", bound)
        return self

    @property
    def storage(self) -> StorageConfig:
        """What everything that stores or reads is told."""
        return StorageConfig(data=self.data, redis=self.redis, history=self.history, retention=self.retention)

    def line(self, name: str) -> LineConfig:
        """The entry of one line.

        Raises:
            ConfigError: there is no such line.
        """
        names = [line.id for line in self.lines]
        if name not in names:
            raise ConfigError(f"no line {name!r}; there is {', '.join(names)}")
        return self.lines[names.index(name)]

    def capture(self, line: str) -> CaptureConfig:
        """What the capture of one line is told."""
        return self.line(line).slice()

    def worker(self, name: str) -> WorkerConfig:
        """What one worker is told.

        Raises:
            ConfigError: there is no such worker.
        """
        return self._worker(name).slice()

    def bind(self, worker: str) -> str:
        """Where a worker listens."""
        entry = self._worker(worker)
        return entry.bind or default_endpoint(self.data, entry.name)

    def endpoints(self) -> list[str]:
        """Where captures find the workers."""
        return [worker.connect or reachable(self.bind(worker.name)) for worker in self.workers]

    def keys(self, *endpoints: str) -> Path | None:
        """Folder of the CURVE keys if any of the endpoints leaves this machine's file system."""
        return self.data / "keys" if any(endpoint.startswith("tcp://") for endpoint in endpoints) else None

    @property
    def journal(self) -> Path:
        """Folder in which captures note how many frames they owe a verdict."""
        return self.data / "journal"

    def judges(self) -> list[JudgeConfig]:
        """What workers are told about each line.

        Raises:
            ConfigError: `false_alarms` is not understood, or is per time on a line without `fps`.
        """
        judges: list[JudgeConfig] = []
        problems: list[str] = []
        for number, line in enumerate(self.lines):
            try:
                asked = parse_false_alarms(line.false_alarms)
                asked.rate(None if line.fps is None else 1 / line.fps)
            except ValueError as error:
                hint = f"; add `fps:` to line {line.id}" if "fps" in str(error) and line.fps is None else ""
                problems.append(f"lines[{number}].false_alarms: {error}{hint}")
                continue
            judges.append(
                JudgeConfig(
                    line=line.id,
                    model=line.model,
                    false_alarms=asked,
                    fps=line.fps,
                    slack=None if line.alert.cusum is None else line.alert.cusum.slack,
                    golden_blocks=line.golden.block,
                    shifts=self.shifts,
                    roi=line.roi,
                    mask=line.mask,
                )
            )
        if problems:
            raise ConfigError(*problems)
        return judges

    def rules(self) -> dict[str, AlertRules]:
        """When each line's verdicts become alerts."""
        return {line.id: line.alert for line in self.lines}

    def _worker(self, name: str) -> WorkerEntry:
        names = [worker.name for worker in self.workers]
        if name not in names:
            raise ConfigError(f"no worker {name!r}; there is {', '.join(names)}")
        return self.workers[names.index(name)]


def load(path: Path) -> Config:
    """Read linewatch.yaml.

    Raises:
        ConfigError: one line per problem.
    """
    values = read_yaml(path)
    try:
        return Config.model_validate(values, context={"folder": path.resolve().parent})
    except ValidationError as error:
        raise ConfigError(*(f"{path}: {line}" for line in complaints(error, Config))) from error


def _folder(info: ValidationInfo) -> Path:
    return Path(info.context["folder"]) if info.context else Path.cwd()


def _refuse_twins(where: str, key: str, names: list[str]) -> None:
    for number, name in enumerate(names):
        if name in names[:number]:
            raise ValueError(f"{where}[{number}].{key}: {name!r} is taken by {where}[{names.index(name)}]")
