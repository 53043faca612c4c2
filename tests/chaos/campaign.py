"""One run: strike, heal, wait until all is well, again and again; then the books."""

import random
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from inference.engine import Engine
from ingest.preprocess import prepare
from storage.models import Registry
from storage.records import Status
from tests.chaos import camera
from tests.chaos.books import Books
from tests.chaos.faults import FAULTS
from tests.chaos.plant import Plant
from tests.chaos.report import report
from tests.chaos.striking import strike_all

START_S = 180.0
_RESCORED = 1000


def campaign(
    folder: Path, *, faults: int, seed: int, only: Sequence[str], log: Path, stop: threading.Event
) -> dict[str, Any]:
    """Run `faults` faults of a seed, or until `stop`; the report of what was."""
    log.unlink(missing_ok=True)
    plant = Plant(folder, log=log)
    try:
        plant.prepare()
        kinds = [fault for fault in FAULTS if fault.name not in plant.left_out]
        if only:
            kinds = [fault for fault in kinds if fault.name.startswith(tuple(only))]
        if not kinds:
            raise RuntimeError(f"nothing to strike with; left out here: {', '.join(plant.left_out) or 'nothing'}")
        plant.start()
        if plant.await_well(since_ns=time.monotonic_ns(), patience_s=START_S) is None:
            raise RuntimeError(f"the plant does not start; see {log}")
        struck = strike_all(plant, kinds, faults=faults, seed=seed, stop=stop)
        books = plant.finish()
        rescored = _rescore(plant, books, seed)
        books = Books(**{name: getattr(books, name) for name in Books.__slots__} | {"rescored": rescored})
        return report(books, struck, asked=faults, stopped=stop.is_set(), seed=seed, left_out=plant.left_out)
    finally:
        plant.close()


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
