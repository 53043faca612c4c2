"""Faults of the file that outlives a capture: what may lie beside a run's journal, and what may be left of it."""

import random
import signal
import time
from collections.abc import Callable

from tests.chaos import camera
from tests.chaos.plant import LOCAL, REMOTE, WORKERS, Plant

_KEPT_S = 0.5
"""So long a paused worker is sent frames; they stay with it until it has been silent for 3 s."""
_KNOWN_S = 1.6
"""Within this time a beat, one a second, has told Redis how many frames there are."""


def litter(plant: Plant, draw: random.Random) -> Callable[[], None] | None:
    """Files beside the journal as crashes and strangers may leave them: empty, half, too long, not ours.

    Then their capture starts again, and must neither fail nor take one for a run.
    """
    line = draw.choice([line for line in plant.lines if line != REMOTE])
    if f"capture {line}" not in plant.pids():
        return None
    for size in (0, 7, 15, 16, 17, 4096):
        (plant.config.journal / f"{line}@{draw.getrandbits(64):016x}.run").write_bytes(draw.randbytes(size))
    return None if plant.signal(f"capture {line}", signal.SIGKILL) is None else _nothing


def tear(plant: Plant, draw: random.Random) -> Callable[[], None] | None:
    """Kill a capture that owes verdicts, and tear its journal before its successor reads it.

    What Redis knows of, a worker must end after a minute; what only the journal knew would be lost, and that is no
    promise. So the camera stands still until Redis has been told of every frame. Some are open all the same: the worker
    that holds them was paused, and is killed too.
    """
    worker, capture = f"worker {WORKERS[0]}", f"capture {LOCAL}"
    told = plant.inside.strangers(WORKERS[0])
    if told is None or told[0] != plant.pids().get(worker):  # one that still loads holds no frames
        return None
    if plant.signal(worker, signal.SIGSTOP) is None:
        return None
    time.sleep(_KEPT_S)
    plant.order(LOCAL, camera.STALL)
    run = _all_known(plant)
    if run is None or plant.signal(capture, signal.SIGKILL) is None:
        plant.signal(worker, signal.SIGCONT)
        plant.order(LOCAL, camera.OK)
        return None
    journal = plant.config.journal / f"{LOCAL}@{run}.run"
    journal.write_bytes(torn(journal.read_bytes(), draw))
    plant.signal(worker, signal.SIGKILL)
    return lambda: plant.order(LOCAL, camera.OK)


def torn(whole: bytes, draw: random.Random) -> bytes:
    """What may be left of a journal: nothing, its beginning, another beginning, or the count of a moment before."""
    magic, count = whole[:8], whole[8:]
    older = draw.randrange(int.from_bytes(count, "little")).to_bytes(8, "little")
    return draw.choice((b"", whole[: draw.randrange(1, 16)], bytes(8) + count, magic + older))


def _all_known(plant: Plant) -> str | None:
    """The run of which Redis knows each frame, and that owes verdicts; None: there is none in time."""
    until = time.monotonic() + _KNOWN_S
    sure = 0
    while time.monotonic() < until:
        owed, sent = plant.inside.owed(LOCAL), plant.pictures(LOCAL)
        known = owed is not None and owed.next_seq == sent and plant.obeyed(LOCAL, camera.STALL, patience_s=0.05)
        sure = sure + 1 if known else 0
        if owed is not None and sure == 2:
            return owed.run
        time.sleep(0.05)
    return None


def _nothing() -> None:
    """What is over at once needs no healing."""
