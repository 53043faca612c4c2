"""From samples to a report: what has to hold, and whether it did. Pure."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from statistics import median
from typing import Any

from alerts.follower import BATCH, KEEP
from storage.records import LineState
from tests.soak.samples import Process, Sample
from tests.soak.slope import Slope, Trend, slope

WARM_UP_S = 300.0
MOST_WARM_UP_S = 20 * 60.0
"""Models, caches, pools and the stream fill: in the first third, if that lies between the two; never more than half."""
LONG_S = 30 * 60.0
"""A shorter run tells nothing of a slope; it is measured and shown, but not held against it."""
EVIDENCE_SLACK = 1.01
"""A store that is written and pruned while it is measured is counted a little too large."""
WAL_MB = 16.0
"""SQLite folds its log back every 4 MB; a reader that never lets go keeps it from that."""
_TRIM_S = 30.0


@dataclass(frozen=True, slots=True)
class Role:
    """One process over the run; `memory` is judged after the warm-up."""

    rss_mb_start: float
    rss_mb_end: float
    uss_mb_start: float
    uss_mb_end: float
    memory: Slope
    fds_start: int
    fds_end: int
    threads_start: int
    threads_end: int
    fds_grow: bool
    threads_grow: bool

    @property
    def flat(self) -> bool:
        """Neither memory nor descriptors nor threads grow."""
        return self.memory.trend is Trend.FLAT and not self.fds_grow and not self.threads_grow


@dataclass(frozen=True, slots=True)
class Ending:
    """What was found after the end.

    Attributes:
        states: each line's state in storage.
        counted: verdicts the history has counted.
        exit_code: of `linewatch up`.
        visits, failures: the page's answers by status, and what went wrong there.
        hook_taken: messages the webhook took.
        undelivered: messages that it should have taken.
    """

    states: Sequence[LineState]
    counted: int
    exit_code: int
    visits: dict[int, int] = field(default_factory=dict)
    failures: dict[str, int] = field(default_factory=dict)
    hook_taken: int = 0


@dataclass(frozen=True, slots=True)
class Report:
    """The outcome. `faults` are what did not hold, one line each."""

    minutes: float
    samples: int
    frames: int
    frames_per_s: float
    lost_share: float
    cores_busy: float
    roles: dict[str, Role]
    redis_memory: Slope
    redis_mb_max: float
    stream_max: int
    aof_mb_max: float
    wal_mb_max: float
    history_mb_end: float
    log_mb_per_h: float
    evidence_max_mb: float
    evidence_cap_mb: float
    restarts: int
    unaccounted: int
    hook_taken: int
    page_answers: dict[int, int]
    faults: list[str]

    @property
    def ok(self) -> bool:
        """Everything held."""
        return not self.faults

    def dump(self) -> dict[str, Any]:
        """As JSON."""
        roles = {name: {**_row(asdict(role)), "flat": role.flat} for name, role in self.roles.items()}
        return {**_row(asdict(self)), "roles": roles, "ok": self.ok}


def judge(samples: Sequence[Sample], ending: Ending, *, cap_mb: float, roles: Sequence[str]) -> Report:
    """Hold the samples and the accounts against what has to hold.

    Args:
        samples: in order of time, at least two.
        ending: what was found after the end.
        cap_mb: bound on the evidence.
        roles: processes that must be in every sample.
    """
    first, last = samples[0], samples[-1]
    span = last.at_s - first.at_s
    settled = after_warm_up(samples)
    found = {name: _role(samples, settled, name) for name in roles if any(name in s.roles for s in samples)}
    busy = sum(_cpu(samples, name) for name in found)
    captured = sum(state.captured for state in ending.states)
    report = Report(
        minutes=span / 60,
        samples=len(samples),
        frames=captured,
        frames_per_s=(last.frames - first.frames) / span,
        lost_share=(last.lost - first.lost) / max(1, last.frames - first.frames),
        cores_busy=busy / span,
        roles=found,
        redis_memory=slope([s.at_s for s in settled], [s.redis_mb for s in settled]),
        redis_mb_max=max(s.redis_mb for s in samples),
        stream_max=max(s.stream for s in samples),
        aof_mb_max=max(s.aof_mb for s in samples),
        wal_mb_max=max(s.wal_mb for s in samples),
        history_mb_end=last.history_mb,
        log_mb_per_h=(last.log_mb - first.log_mb) / span * 3600,
        evidence_max_mb=max(s.evidence_mb for s in samples),
        evidence_cap_mb=cap_mb,
        restarts=max(s.restarts for s in samples),
        unaccounted=_unaccounted(ending),
        hook_taken=ending.hook_taken,
        page_answers=ending.visits,
        faults=[],
    )
    report.faults.extend(_faults(report, samples, ending, roles))
    return report


def after_warm_up(samples: Sequence[Sample]) -> list[Sample]:
    """The samples that memory is judged by."""
    began, span = samples[0].at_s, samples[-1].at_s - samples[0].at_s
    return [sample for sample in samples if sample.at_s >= began + warm_up_s(span)]


def warm_up_s(span: float) -> float:
    """How much of a run is not judged; both in seconds."""
    return min(max(WARM_UP_S, min(span / 3, MOST_WARM_UP_S)), span / 2)


def grows(counts: Sequence[int]) -> bool:
    """Whether the last quarter usually is above all of the second one; the first is the warm-up.

    Usually: a connection that is just being accepted when a sample is taken is no growth.
    """
    quarter = len(counts) // 4
    return quarter > 0 and median(counts[-quarter:]) > max(counts[quarter : 2 * quarter])


def _role(samples: Sequence[Sample], settled: Sequence[Sample], name: str) -> Role:
    seen = [sample.roles[name] for sample in samples if name in sample.roles]
    known = [(sample.at_s, sample.roles[name].rss_mb) for sample in settled if name in sample.roles]
    first, last = seen[0], seen[-1]
    return Role(
        rss_mb_start=first.rss_mb,
        rss_mb_end=last.rss_mb,
        uss_mb_start=first.uss_mb,
        uss_mb_end=last.uss_mb,
        memory=slope([at_s for at_s, _ in known], [mb for _, mb in known]),
        fds_start=first.fds,
        fds_end=last.fds,
        threads_start=first.threads,
        threads_end=last.threads,
        fds_grow=grows([process.fds for process in seen]),
        threads_grow=grows([process.threads for process in seen]),
    )


def _cpu(samples: Sequence[Sample], name: str) -> float:
    """Processor seconds of a role, over all its processes."""
    seen: list[Process] = [sample.roles[name] for sample in samples if name in sample.roles]
    return sum(max(0.0, b.cpu_s - a.cpu_s) for a, b in pairwise(seen) if a.pid == b.pid)


def _unaccounted(ending: Ending) -> int:
    """Frames without an outcome, and outcomes that the history has not counted exactly once."""
    ended = sum(state.passed + state.rejected + state.unknown for state in ending.states)
    return sum(abs(state.open) for state in ending.states) + abs(ended - ending.counted)


def _faults(report: Report, samples: Sequence[Sample], ending: Ending, roles: Sequence[str]) -> list[str]:
    faults = []
    for name in roles:
        missing = sum(name not in sample.roles for sample in samples)
        if missing:
            faults.append(f"{name}: missing in {missing} of {len(samples)} samples")
    if report.minutes * 60 >= LONG_S:
        faults += _growth(report)
    most = KEEP + BATCH + _TRIM_S * report.frames_per_s
    bounds = (
        ("evidence", report.evidence_max_mb, EVIDENCE_SLACK * report.evidence_cap_mb, "MB"),
        ("history's write-ahead log", report.wal_mb_max, WAL_MB, "MB"),
        ("verdict stream", report.stream_max, most, "entries"),
    )
    faults += [f"{what}: {got:.1f} {unit}, bound {bound:.1f}" for what, got, bound, unit in bounds if got > bound]
    if report.restarts:
        faults.append(f"{report.restarts} restarts")
    if report.unaccounted or not report.frames:
        faults.append(f"{report.unaccounted} of {report.frames} frames unaccounted for")
    if ending.exit_code:
        faults.append(f"linewatch up ended with {ending.exit_code}")
    faults += [f"page: {what}, {count} times" for what, count in ending.failures.items()]
    return faults


def _growth(report: Report) -> list[str]:
    """Of a run that is long enough to tell."""
    faults = [f"{name}: threads grow" for name, role in report.roles.items() if role.threads_grow]
    faults += [
        f"{name}: file descriptors grow, {role.fds_start} to {role.fds_end}"
        for name, role in report.roles.items()
        if role.fds_grow  # pools fill in the first minutes
    ]
    series = {**{name: role.memory for name, role in report.roles.items()}, "redis' data": report.redis_memory}
    for name, found in series.items():
        if found.trend is not Trend.FLAT:
            faults.append(
                f"{name}: memory {found.trend}, {found.mb_per_h:+.1f} MB/h [{found.low:.1f}, {found.high:.1f}]"
            )
    return faults


def _row(values: dict[str, Any]) -> dict[str, Any]:
    """Rounded for people; what is no number (an interval without an end) is null."""
    return {name: _short(value) for name, value in values.items()}


def _short(value: Any) -> Any:
    if isinstance(value, dict):
        return _row(value)
    if isinstance(value, float):
        return round(value, 3) if abs(value) < float("inf") else None
    return value
