"""Strike, heal, wait until all is well, again and again."""

import random
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice

from tests.chaos.faults import Fault, Heal
from tests.chaos.plant import Plant
from tests.chaos.schedule import schedule

PATIENCE_S = 120.0
"""A plant that is not well this long after a fault has not recovered."""
_HIT_S = 30.0
"""Who should be hit is waited for: what was struck before is still being started again."""
_AGAIN_S = 0.2


@dataclass(slots=True)
class Struck:
    """What was done to the plant.

    Attributes:
        recoveries: name of each fault that hit, and seconds until all was well again; None: it never was.
        missed: the same of those that hit nothing; they do not count.
    """

    recoveries: list[tuple[str, float | None]] = field(default_factory=list)
    missed: list[tuple[str, float | None]] = field(default_factory=list)

    @property
    def not_recovered(self) -> int:
        """After how many of both it was never well again."""
        return sum(recovery is None for _, recovery in self.recoveries + self.missed)


def strike_all(plant: Plant, kinds: Sequence[Fault], *, faults: int, seed: int, stop: threading.Event) -> Struck:
    """Let so many faults of a seed hit, or until `stop`. Of twice as many tries: a kind that never hits ends it."""
    struck = Struck()
    for fault, draw in islice(schedule(kinds, seed=seed), 2 * faults):
        if stop.is_set() or len(struck.recoveries) == faults:
            break
        hold = draw.uniform(*fault.hold)
        heal = _hit(plant, fault, draw, stop)
        if heal is not None:
            time.sleep(hold)
            heal()
        healed_ns = time.monotonic_ns()
        recovery = plant.await_well(since_ns=healed_ns, patience_s=PATIENCE_S)
        said = f"well after {recovery:.1f} s" if recovery is not None else f"NOT WELL: {plant.ailing(healed_ns)}"
        (struck.missed if heal is None else struck.recoveries).append((fault.name, recovery))
        if heal is None:
            said = f"hit nothing, {said}"
        _say(f"{len(struck.recoveries):4} {fault.name:18} {hold:4.1f} s, {said}")
        stop.wait(draw.uniform(0.0, 0.5))
    return struck


def _hit(plant: Plant, fault: Fault, draw: random.Random, stop: threading.Event) -> Heal | None:
    until = time.monotonic() + _HIT_S
    while (heal := fault.strike(plant, draw)) is None and time.monotonic() < until:
        if stop.wait(_AGAIN_S):
            return None
    return heal


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)
