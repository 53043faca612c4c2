"""Whether scores are still those of the calibration: a conformal test martingale, exact for any number of them. Pure.

A verdict's p-value says into which of the n + 1 gaps between the n calibration scores its score falls. While both are
exchangeable, gaps follow a Polya urn: given the past, a gap that was hit N times comes next with probability (1 + N)
/ (n + 1 + t) after t scores. Unlike "p-values are uniform", this holds for the one calibration there is, however
small: the urn learns what that calibration happened to be. Gaps are pooled into at most 64 groups, and the smoothed
rank in the urn

    u = (weight of the groups before + U * weight of the group) / (n + 1 + t),    U uniform

is independent of the past and exactly uniform on [0, 1]. U comes from a hash of the verdict's id, so that a replay
gives the same. (Scores that tie with calibration scores in great number are not covered.)

Against that bets the Simple Jumper (Vovk, Petej, Nouretdinov, Ahlberg, Carlsson, Gammerman, "Retrain or not retrain:
conformal test martingales for change-point detection", COPA 2021): factors 1 + e (u - 1/2) for e in {-1, 0, 1}, among
which a share J of the capital moves at each step. Its capital melts while nothing changes, so it does not enter at
once: 1/(t (t + 1)) of the whole enters with score t. The sum is a martingale still: by Ville's inequality it ever
reaches 1/delta with probability delta at most, and waiting t scores for a change costs it but a factor of about t^2.

Both sides are drift: scores that rise, and scores that collapse because the detector sees nothing any more.
"""

import hashlib
import math

from pydantic import BaseModel, ConfigDict

from storage.records import Verdict

GROUPS = 64
SETTLED = 200
"""Scores after which drift is over, if a martingale that began anew stayed below `DOUBT`."""
DOUBT = 20.0
PATIENCE = 50
"""Scores that are left out while a defect is open: a real defect is no drift, one that never ends may be."""
_JUMP = 0.01
_BETS = (-1.0, 0.0, 1.0)
_NS = 1_000_000_000


class Block(BaseModel):
    """The video block that is being watched. Times are stream time, nanoseconds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    p_value: float
    """The smallest so far."""
    first_ns: int
    last_ns: int
    left_out: bool


class Drift(BaseModel):
    """The test of one line's scores against one calibration."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    n: int
    block_s: float | None = None
    hits: tuple[int, ...] = ()
    """Scores per group of gaps, the most anomalous first."""
    scores: int = 0
    log_bet: float = 0.0
    """Logarithm of the capital that has entered, with the first score at the earliest."""
    shares: tuple[float, float, float] = (1 / 3, 1 / 3, 1 / 3)
    """Of it, per bet: scores rise, stay, fall."""
    left_out: int = 0
    """Scores since a defect was opened."""
    block: Block | None = None

    @classmethod
    def against(cls, verdict: Verdict) -> "Drift | None":
        """Begin with the calibration that a verdict's p-value comes from; None: it says of none."""
        if verdict.basis is None or verdict.p_value is None or verdict.model is None:
            return None
        n = verdict.basis.n
        return cls(model=verdict.model, n=n, block_s=verdict.basis.block_s, hits=(0,) * min(GROUPS, n + 1))

    def anew(self) -> "Drift":
        """The same test from its beginning: the urn holds nothing but the calibration."""
        return Drift(model=self.model, n=self.n, block_s=self.block_s, hits=(0,) * len(self.hits))

    def about(self, verdict: Verdict) -> bool:
        """Whether a verdict's p-value comes from this calibration."""
        basis = verdict.basis
        return basis is not None and (self.model, self.n, self.block_s) == (verdict.model, basis.n, basis.block_s)

    @property
    def log_capital(self) -> float:
        """Logarithm of the martingale, which begins at 1."""
        return _log_sum(-math.log1p(self.scores), self.log_bet) if self.scores else 0.0

    def reaches(self, bound: float) -> bool:
        """Whether the martingale is at `bound` or above, which it ever is with probability 1 / bound at most."""
        return self.log_capital >= math.log(bound)

    @property
    def rising(self) -> bool:
        """Whether scores became higher, as far as there is drift: more anomalous."""
        return self.shares[0] >= self.shares[-1]

    def moved_back(self, back_ns: int) -> "Drift":
        """The same after the clock was set back: no duration changes."""
        if self.block is None:
            return self
        times = {"first_ns": self.block.first_ns - back_ns, "last_ns": self.block.last_ns - back_ns}
        return self.model_copy(update={"block": self.block.model_copy(update=times)})

    def interrupted(self) -> "Drift":
        """The same after a frame nobody could judge: the block it belongs to says nothing."""
        return self if self.block is None else self.model_copy(update={"block": None})


def observe(drift: Drift, verdict: Verdict, p_value: float, *, at_ns: int, newest: bool, defect: bool) -> Drift:
    """Add one judged verdict.

    Each calibration score of a video is the highest of a block, so the test takes one step per block of stream time,
    with the smallest p-value of it. Of images it takes one step each.

    Args:
        drift: so far; about the verdict's calibration.
        verdict: `pass` or `reject`.
        p_value: its.
        at_ns: when it was captured, stream time.
        newest: it is the newest frame; a straggler's block is over.
        defect: a defect was open before this verdict. Leaving scores out for a reason that lies in their past keeps
            the others exchangeable.
    """
    if not defect and drift.left_out:
        drift = drift.model_copy(update={"left_out": 0})
    left_out = defect and drift.left_out < PATIENCE
    if drift.block_s is None:
        return _step(drift, verdict.id, p_value, left_out=left_out)
    if not newest:
        return drift
    block, length_ns = drift.block, round(drift.block_s * _NS)
    if block is not None:
        pause_ns = at_ns - block.last_ns
        if pause_ns > 1.5 * length_ns:  # nobody knows what was between
            block = None
        elif at_ns + min(pause_ns, length_ns) / 2 >= block.first_ns + length_ns:  # to the nearest frame
            drift, block = _step(drift, block.name, block.p_value, left_out=block.left_out), None
    if block is None:
        block = Block(name=verdict.id, p_value=p_value, first_ns=at_ns, last_ns=at_ns, left_out=left_out)
    else:
        block = block.model_copy(update={"p_value": min(block.p_value, p_value), "last_ns": at_ns})
    return drift.model_copy(update={"block": block})


def rank(drift: Drift, name: str, p_value: float) -> tuple[int, float]:
    """The group of gaps a score falls into, and its smoothed rank u in the urn: uniform while nothing has changed."""
    gaps, groups = drift.n + 1, len(drift.hits)
    above = min(max(round(p_value * gaps) - 1, 0), drift.n)  # calibration scores at least as high
    group = above * groups // gaps
    first, end = _first_gap(group, groups, gaps), _first_gap(group + 1, groups, gaps)
    below = first + sum(drift.hits[:group])
    inside = end - first + drift.hits[group]
    return group, (below + _uniform(name) * inside) / (gaps + drift.scores)


def _step(drift: Drift, name: str, p_value: float, *, left_out: bool) -> Drift:
    if left_out:
        return drift.model_copy(update={"left_out": drift.left_out + 1})
    group, u = rank(drift, name, p_value)
    scores = drift.scores + 1
    log_enters = -math.log(scores * (scores + 1))
    log_bet = _log_sum(drift.log_bet, log_enters) if drift.scores else log_enters
    new = math.exp(log_enters - log_bet)
    shares = [(1 - new) * share + new / len(_BETS) for share in drift.shares]
    shares = [(1 - _JUMP) * share + _JUMP / len(_BETS) for share in shares]
    gains = [share * (1 + bet * (u - 0.5)) for share, bet in zip(shares, _BETS, strict=True)]
    gain = sum(gains)
    hits = list(drift.hits)
    hits[group] += 1
    return drift.model_copy(
        update={
            "hits": tuple(hits),
            "scores": scores,
            "log_bet": log_bet + math.log(gain),
            "shares": tuple(share / gain for share in gains),
        }
    )


def _first_gap(group: int, groups: int, gaps: int) -> int:
    """The first gap of a group, where gap g belongs to group g * groups // gaps."""
    return -(-group * gaps // groups)


def _uniform(name: str) -> float:
    """A number in [0, 1) that a name determines and nothing else predicts."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=6).digest()) / 2**48


def _log_sum(a: float, b: float) -> float:
    """log(exp(a) + exp(b))."""
    high, low = max(a, b), min(a, b)
    return high + math.log1p(math.exp(low - high))
