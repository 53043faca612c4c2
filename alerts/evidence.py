"""What speaks for a defect on one line: rejects that count (hits), and weak evidence that adds up over frames. Pure.

Two tests run side by side, and the first to fire opens the event:

- k of n: at least k hits among the last n judged verdicts;
- CUSUM (Page, 1954) on conformal p-values: S = max(0, S - ln p - slack) exceeds the limit that calibration gave
  (`storage.records.Basis.limit`). For a good scene -ln p averages 1 at most, so with a slack above 1 S keeps returning
  to 0.

Evidence "lasts" from the first hit of an unbroken chain (one hit in any n verdicts), or from when S last left 0.
"""

import math
from dataclasses import dataclass
from typing import Self

from pydantic import BaseModel, ConfigDict

from alerts.config import AlertRules
from storage.records import Status, Verdict

NS = 1_000_000_000
_MISS, _HIT = ".", "x"


class Sighting(BaseModel):
    """One frame of an event, as far as frames are compared: small p first, then high score."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    verdict: str
    score: float | None
    p_value: float | None
    evidence: str | None

    @classmethod
    def of(cls, verdict: Verdict) -> Self:
        """What is kept of a verdict."""
        return cls(verdict=verdict.id, score=verdict.score, p_value=verdict.p_value, evidence=verdict.evidence)

    def worse_than(self, other: "Sighting | None") -> bool:
        """Whether it is the more anomalous of two; the earlier one wins a draw."""
        return other is None or self.rank < other.rank

    @property
    def rank(self) -> tuple[float, float]:
        """Sorts frames, the most anomalous first."""
        return (1.0 if self.p_value is None else self.p_value, math.inf if self.score is None else -self.score)


class Evidence(BaseModel):
    """All that is remembered of the frames that may belong to a defect. Times are stream time, nanoseconds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    recent: str = ""
    """The last judged verdicts since a defect was cleared, newest last: `x` hit, `.` anything else."""
    hit_ns: int | None = None
    """First hit of the present chain; None: there is none, or the camera was unfit since."""
    total: float = 0.0
    """S of the CUSUM."""
    total_ns: int | None = None
    """The frame with which S left 0; None while it is 0."""
    frames: int = 0
    """Frames since then."""
    first_ns: int | None = None
    """First frame of an open event; None while none is open."""
    last_ns: int = 0
    """Last frame that keeps an open event going."""
    worst: Sighting | None = None
    pictured: Sighting | None = None
    """The worst one that has pictures."""

    def moved_back(self, back_ns: int) -> "Evidence":
        """The same after the clock was set back: no duration changes."""
        return self.model_copy(
            update={
                "hit_ns": None if self.hit_ns is None else self.hit_ns - back_ns,
                "total_ns": None if self.total_ns is None else self.total_ns - back_ns,
                "first_ns": None if self.first_ns is None else self.first_ns - back_ns,
                "last_ns": self.last_ns - back_ns,
            }
        )

    def interrupted(self, *, event: bool) -> "Evidence":
        """The same after a frame for which the camera was unfit: what lasts or adds up begins anew.

        Hits stay counted, so that on a line of parts one dark picture does not undo a reject; an open `event` goes on.
        """
        update: dict[str, object] = {"hit_ns": None, "total": 0.0, "total_ns": None, "frames": 0}
        if not event:
            update |= {"worst": None, "pictured": None}
        return self.model_copy(update=update)


@dataclass(frozen=True, slots=True)
class Weighed:
    """What one judged verdict says.

    Attributes:
        goes_on: it belongs to an event: keeps an open one going.
        started_ns: set when the evidence suffices for an event: when its first frame was captured.
        count: frames that this evidence is made of.
        added_up: S, where only the CUSUM fired; None where rejects did.
    """

    goes_on: bool
    started_ns: int | None = None
    count: int = 1
    added_up: float | None = None


def weigh(
    evidence: Evidence, verdict: Verdict, rules: AlertRules, *, at_ns: int, newest: bool, event: bool
) -> tuple[Evidence, Weighed]:
    """Add one judged verdict.

    Args:
        evidence: so far.
        verdict: `pass` or `reject`.
        rules: of its line.
        at_ns: when it was captured, stream time, never after the newest frame.
        newest: it is the newest frame; S follows the order of capture, so a straggler does not move it.
        event: an event is open.
    """
    hit = counts(verdict, rules)
    evidence, over = _add_up(evidence, verdict, rules, at_ns=at_ns, newest=newest)
    recent = (evidence.recent + (_HIT if hit else _MISS))[-rules.raise_.n :]
    hit_ns = evidence.hit_ns if _HIT in recent else None
    if hit:
        hit_ns = at_ns if hit_ns is None else min(hit_ns, at_ns)
    held = event and verdict.p_value is not None and 0 < verdict.p_value <= rules.hold
    goes_on = hit or held or over
    update: dict[str, object] = {"recent": recent, "hit_ns": hit_ns}
    if goes_on:
        update["last_ns"] = max(evidence.last_ns, at_ns)
    if goes_on or (newest and evidence.total > 0):
        seen = Sighting.of(verdict)
        if seen.worse_than(evidence.worst):
            update["worst"] = seen
        if seen.evidence is not None and seen.worse_than(evidence.pictured):
            update["pictured"] = seen
    elif not event and hit_ns is None and evidence.total == 0:
        update |= {"worst": None, "pictured": None}
    evidence = evidence.model_copy(update=update)
    return evidence, _verdict(evidence, rules, at_ns=at_ns, hit=hit, over=over, goes_on=goes_on)


def counts(verdict: Verdict, rules: AlertRules) -> bool:
    """Whether a verdict is a hit: a reject, and not known to be too small.

    A reject without a region (a detector without maps, a calibration of an older version) counts whatever `min_area`
    says: what cannot be measured is not small.
    """
    return verdict.status is Status.REJECT and (verdict.region is None or verdict.region.area >= rules.min_area)


def _add_up(
    evidence: Evidence, verdict: Verdict, rules: AlertRules, *, at_ns: int, newest: bool
) -> tuple[Evidence, bool]:
    """Move S. Returns also whether it is above the limit now.

    S is held to one most anomalous frame above the limit: a long event neither grows it without end nor keeps the next
    good frames waiting for it to drain. Below the limit, where the false-alarm rate is decided, nothing is changed.
    """
    if not newest:
        return evidence, False
    basis, p = verdict.basis, verdict.p_value
    if rules.cusum is None or basis is None or basis.limit is None or p is None:
        return evidence.model_copy(update={"total": 0.0, "total_ns": None, "frames": 0}), False
    most = math.log(basis.n + 1)
    weight = min(most, -math.log(p)) if p > 0 else most
    total = min(max(0.0, evidence.total + weight - rules.cusum.slack), basis.limit + most)
    if total <= 0:
        return evidence.model_copy(update={"total": 0.0, "total_ns": None, "frames": 0}), False
    since = at_ns if evidence.total_ns is None else evidence.total_ns
    moved = evidence.model_copy(update={"total": total, "total_ns": since, "frames": evidence.frames + 1})
    return moved, total > basis.limit


def _verdict(evidence: Evidence, rules: AlertRules, *, at_ns: int, hit: bool, over: bool, goes_on: bool) -> Weighed:
    least_ns = round(rules.min_duration * NS)
    hits = evidence.recent.count(_HIT)
    starts, count = list[int](), 1
    often = hit and hits >= rules.raise_.k and evidence.hit_ns is not None and at_ns - evidence.hit_ns >= least_ns
    if often and evidence.hit_ns is not None:
        starts.append(evidence.hit_ns)
        count = max(count, hits)
    if over and evidence.total_ns is not None and at_ns - evidence.total_ns >= least_ns:
        starts.append(evidence.total_ns)
        count = max(count, evidence.frames)
    if not starts:
        return Weighed(goes_on)
    return Weighed(goes_on, min(starts), count, None if often else evidence.total)
