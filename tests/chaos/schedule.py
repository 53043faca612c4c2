"""Which fault when: a pure function of the seed."""

import random
from collections.abc import Iterator, Sequence

from tests.chaos.faults import Fault


def schedule(faults: Sequence[Fault], *, seed: int) -> Iterator[tuple[Fault, random.Random]]:
    """Rounds of all faults in a new order each, without end; rarer ones are in some rounds only.

    Yields:
        A fault, and the chance that decides its details.
    """
    number, due = 0, {fault.name: 1.0 for fault in faults}
    while True:
        order = list(faults)
        random.Random(f"{seed} {number}").shuffle(order)
        for fault in order:
            if due[fault.name] >= 1.0:
                due[fault.name] -= 1.0
                yield fault, random.Random(f"{seed} {number} {fault.name}")
            due[fault.name] += fault.weight
        number += 1
