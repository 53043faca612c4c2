"""One run: strike, heal, wait until all is well, again and again; then the books."""

import random
import statistics
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from inference.engine import Engine
from ingest.preprocess import prepare
from storage.models import Registry
from storage.records import AlertKind, Status
from tests.chaos import camera
from tests.chaos.books import Books
from tests.chaos.checkers import PROMISES
from tests.chaos.faults import FAULTS
from tests.chaos.plant import Plant
from tests.chaos.schedule import schedule

START_S = 180.0
PATIENCE_S = 120.0
"""A plant that is not well this long after a fault has not recovered."""
_RESCORED = 1000
_SHOWN = 20


def campaign(
    folder: Path, *, faults: int, seed: int, only: Sequence[str], log: Path, stop: threading.Event
) -> dict[str, Any]:
    """Run `faults` faults of a seed, or until `stop`; the report of what was."""
    log.unlink(missing_ok=True)
    plant = Plant(folder, log=log)
    try:
        plant.prepare()
        plant.start()
        if plant.await_well(since_ns=time.monotonic_ns(), patience_s=START_S) is None:
            raise RuntimeError(f"the plant does not start; see {log}")
        kinds = [fault for fault in FAULTS if fault.name not in plant.left_out]
        if only:
            kinds = [fault for fault in kinds if fault.name.startswith(tuple(only))]
        struck = []
        for number, (fault, draw) in enumerate(islice(schedule(kinds, seed=seed), faults), 1):
            if stop.is_set():
                break
            struck.append(_strike(plant, fault, draw, number))
        books = plant.finish()
        rescored = _rescore(plant, books, seed)
        books = Books(**{name: getattr(books, name) for name in Books.__slots__} | {"rescored": rescored})
        return _report(books, struck, seed=seed, left_out=plant.left_out)
    finally:
        plant.close()


def _strike(plant: Plant, fault: Any, draw: random.Random, number: int) -> tuple[str, float | None]:
    hold = draw.uniform(*fault.hold)
    heal = fault.strike(plant, draw)
    time.sleep(hold)
    heal()
    healed_ns = time.monotonic_ns()
    recovery = plant.await_well(since_ns=healed_ns, patience_s=PATIENCE_S)
    said = f"well after {recovery:.1f} s" if recovery is not None else f"NOT WELL: {plant.observer.ailing(healed_ns)}"
    print(f"{time.strftime('%H:%M:%S')} {number:4} {fault.name:18} {hold:4.1f} s, {said}", file=sys.stderr, flush=True)
    time.sleep(draw.uniform(0.0, 0.5))
    return fault.name, recovery


def _rescore(plant: Plant, books: Books, seed: int) -> dict[str, float]:
    """Scores of a sample of judged pictures, painted again and judged by the bundle alone."""
    engine = Engine(Registry(plant.config.storage.models).resolve("plate"), device="cpu", threads=1)
    sent = {picture.part: picture for line in books.sent.values() for picture in line}
    judged = [v for v in books.verdicts if v.status is not Status.UNKNOWN and v.part in sent]
    sample = random.Random(seed).sample(judged, min(_RESCORED, len(judged)))
    scores: dict[str, float] = {}
    for verdict in sample:
        picture = sent[verdict.part or ""]
        size = camera.OTHER_SIZE if picture.orders == camera.RESIZED else camera.SIZE
        painted = camera.paint(picture.boot, 0 if picture.orders == camera.FROZEN else picture.number, size=size)
        scores[verdict.id] = float(engine.judge(prepare(painted, engine.preprocessing)[None]).scores[0])
    return scores


def _report(
    books: Books, struck: Sequence[tuple[str, float | None]], *, seed: int, left_out: Sequence[str]
) -> dict[str, Any]:
    broken = {promise: check(books) for promise, check in PROMISES.items()}
    by_kind: dict[str, list[float | None]] = defaultdict(list)
    for name, recovery in struck:
        by_kind[name].append(recovery)
    recovered = [recovery for _, recovery in struck if recovery is not None]
    defects = {picture.part for line in books.sent.values() for picture in line if picture.defect}
    rejected = [v for v in books.verdicts if v.status is Status.REJECT]
    return {
        "faults": len(struck),
        "seed": seed,
        "frames": sum(len(line) for line in books.sent.values()),
        **{promise: len(found) for promise, found in broken.items()},
        "not_recovered": len(struck) - len(recovered),
        "median_recovery_s": round(statistics.median(recovered), 2) if recovered else None,
        "defects": len(defects),
        "alerts": sum(alert.kind is AlertKind.DEFECT for alert in books.alerts),
        "overkill": sum(v.part not in defects for v in rejected),
        "unknown": sum(v.status is Status.UNKNOWN for v in books.verdicts),
        "rescored": len(books.rescored),
        "deliveries": len(books.told),
        "repeated_deliveries": len(books.told) - len({told.key for told in books.told}),
        "left_out": list(left_out),
        "kinds": {
            name: {
                "faults": len(times),
                "median_recovery_s": _median(times),
                "slowest_recovery_s": max((t for t in times if t is not None), default=None),
            }
            for name, times in sorted(by_kind.items())
        },
        "broken": {promise: found[:_SHOWN] for promise, found in broken.items() if found},
        "ok": not any(broken.values()) and len(recovered) == len(struck),
    }


def _median(times: Sequence[float | None]) -> float | None:
    known = [time for time in times if time is not None]
    return round(statistics.median(known), 2) if known else None
