"""The worker process: a frame's way from the wire to storage, one thread per step.

::

    link (receive) ─> batcher ─> prepare (stack) ─> compute (detector) ─> recorder (store) ─> link (acknowledge)

Each arrow is bounded: by credits in front of the batcher, by queues behind it. So the detector never waits for frames
that have arrived, and nothing piles up behind it.
"""

import os
import queue
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import structlog
from numpy.typing import NDArray

from inference.batching import Batcher
from inference.config import JudgeConfig, WorkerConfig
from inference.engine import Engine, Judgement, choose_device
from inference.job import Job
from inference.judge import Standard, judge, unknown
from inference.lanes import Lanes
from inference.link import Link
from inference.recorder import Judged, Recorded, Recorder
from inference.serving import Serving
from ingest.frame import Condition, new_run
from ingest.preprocess import Preprocessing
from storage.config import StorageConfig
from storage.evidence import EvidenceStore
from storage.lines import Lines
from storage.models import Registry
from storage.server import connect
from storage.workers import Workers

STUCK_S = 60.0
"""A batch that takes longer than this means a hung device: the worker ends itself, so that its frames go elsewhere."""
DRAIN_S = 5.0
_STEPS = 3  # batches received, prepared and being written while others are judged
SWITCH_S = 0.0005
"""How long another thread may keep the interpreter while the detector wants it; Python's 5 ms would stall it often."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Prepared:
    key: str
    engine: Engine
    jobs: list[tuple[Job, Standard]]
    pixels: NDArray[np.uint8]  # [B, h, w, 3]


def serve(
    config: WorkerConfig,
    *,
    endpoint: str,
    lines: Sequence[JudgeConfig],
    storage: StorageConfig,
    keys: Path | None,
    stop: threading.Event,
) -> int:
    """Judge frames until `stop` is set; then finish what was received and return 0.

    Raises:
        IngestError: the endpoint cannot be bound.
        EngineError: the asked device does not exist.
    """
    sys.setswitchinterval(SWITCH_S)
    worker = Worker(config, endpoint=endpoint, lines=lines, storage=storage, keys=keys)
    worker.run(stop)
    return 0


class Worker:
    """One inference process; see the module's picture."""

    def __init__(
        self,
        config: WorkerConfig,
        *,
        endpoint: str,
        lines: Sequence[JudgeConfig],
        storage: StorageConfig,
        keys: Path | None,
    ) -> None:
        self._config = config
        self._name = f"{config.name}-{new_run(time.time_ns())}"
        self._models = {judge.line: judge.model for judge in lines}
        self._serving = Serving(
            lines,
            registry=Registry(storage.models),
            device=config.device,
            threads=config.threads,
            warm_up=config.max_batch,
        )
        client = connect(storage)
        self._recorder = Recorder(
            lines=Lines(client),
            workers=Workers(client),
            evidence=EvidenceStore(storage.evidence, storage.retention),
            name=config.name,
            acknowledge=self._acknowledge,
            info=self._info,
        )
        self._batcher: Batcher[str, Job] = Batcher(max_batch=config.max_batch)
        self._arrived = threading.Condition()
        cores = config.threads or len(os.sched_getaffinity(0))
        self._lanes = Lanes(cores, single=choose_device(config.device).type != "cpu")
        self._prepared: queue.Queue[_Prepared | None] = queue.Queue(1)
        self._draining = False
        self._judged = 0
        self._link = Link(
            endpoint=endpoint,
            keys=keys,
            worker=self._name,
            ahead=(_STEPS + self._lanes.count) * config.max_batch,
            serves=self._serving.knows,
            wanted=self._wanted,
            frame=self._receive,
            told=self._recorder.tell,
        )

    def run(self, stop: threading.Event) -> None:
        """Serve until `stop`, then drain."""
        self._serving.start()
        self._recorder.start()
        steps = [
            threading.Thread(target=self._prepare, name="prepare", daemon=True),
            *(
                threading.Thread(target=self._compute, args=(lane,), name=f"compute {lane}", daemon=True)
                for lane in range(self._lanes.count)
            ),
        ]
        for step in (*steps, threading.Thread(target=self._watchdog, name="watchdog", daemon=True)):
            step.start()
        log.info("worker ready", worker=self._name, models=sorted(set(self._models.values())))
        self._link.serve(stop)
        with self._arrived:
            self._draining = True
            self._arrived.notify_all()
        for step in steps:
            step.join(DRAIN_S)
        self._recorder.stop(patience_s=DRAIN_S)
        self._serving.stop()
        self._link.flush()
        self._link.close()
        log.info("worker ended", worker=self._name, received=self._link.received, judged=self._judged)

    # link's thread

    def _receive(self, job: Job) -> None:
        with self._arrived:
            self._batcher.add(job, key=self._models[job.header.line], deadline=job.deadline)
            self._arrived.notify()

    def _wanted(self, line: str) -> Preprocessing | None:
        served = self._serving[line]
        return None if served is None else served.engine.preprocessing

    # prepare's thread

    def _prepare(self) -> None:
        while True:
            with self._arrived:
                while not len(self._batcher):
                    if self._draining:
                        for _ in range(self._lanes.count):
                            self._prepared.put(None)
                        return
                    self._arrived.wait(1.0)
                taken = self._batcher.take(time.monotonic())
            if taken is None:
                continue
            key, batch = taken
            self._refuse(batch.late, "late")
            for engine, jobs in self._fit_for_judging(batch.items):
                pixels = np.stack([job.pixels for job, _ in jobs if job.pixels is not None])
                self._prepared.put(_Prepared(key, engine, jobs, pixels))

    def _fit_for_judging(self, jobs: Sequence[Job]) -> list[tuple[Engine, list[tuple[Job, Standard]]]]:
        """Group frames by the engine that judges them now; what cannot be judged leaves here as `unknown`."""
        groups: dict[str, tuple[Engine, list[tuple[Job, Standard]]]] = {}
        for job in jobs:
            header = job.header
            served = self._serving[header.line]
            if header.condition is not Condition.OK:
                self._refuse([job], header.condition.value)
            elif served is None:
                self._refuse([job], "no model")
            elif job.pixels is None or job.pixels.shape[1::-1] != served.engine.preprocessing.size:
                self._retry(job)  # prepared for the model before this one
            else:
                groups.setdefault(served.engine.ref, (served.engine, []))[1].append((job, served.standard))
        return list(groups.values())

    def _refuse(self, jobs: Sequence[Job], reason: str) -> None:
        if jobs:
            now, name = time.time_ns(), self._config.name
            judged = [Judged(job, unknown(job, reason=reason, worker=name, wall_ns=now)) for job in jobs]
            self._recorder.put(lambda: judged)

    def _retry(self, job: Job) -> None:
        header = job.header
        span = [(header.seq, header.seq)]
        self._link.acknowledge(Recorded(job.peer, header.line, header.run, span), retry=True)

    # compute's threads

    def _compute(self, lane: int) -> None:
        while (prepared := self._prepared.get()) is not None:
            started = time.monotonic()
            try:
                with self._lanes.enter(lane) as threads:
                    judgement = prepared.engine.judge(prepared.pixels, threads=threads)
            except Exception:  # whatever a detector throws, its frames are unknown and the line goes on
                log.exception("detector failed", model=prepared.engine.ref, frames=len(prepared.jobs))
                self._refuse([job for job, _ in prepared.jobs], "detector failed")
                continue
            with self._arrived:
                self._batcher.observe(prepared.key, len(prepared.jobs), time.monotonic() - started)
                self._judged += len(prepared.jobs)
            self._recorder.put(partial(self._verdicts, prepared, judgement, time.time_ns()))

    def _verdicts(self, prepared: _Prepared, judgement: Judgement, now: int) -> list[Judged]:
        """Runs in the recorder's thread: the detector goes on with the next batch meanwhile."""
        name = self._config.name
        return [
            Judged(
                job,
                judge(job, score=float(score), anomaly_map=heat, standard=standard, worker=name, wall_ns=now),
                heat,
            )
            for (job, standard), score, heat in zip(prepared.jobs, judgement.scores, judgement.maps, strict=True)
        ]

    # any thread

    def _acknowledge(self, recorded: Recorded) -> None:
        self._link.acknowledge(recorded)

    def _info(self) -> dict[str, object]:
        return {
            "worker": self._name,
            "pid": os.getpid(),
            "wall_ns": time.time_ns(),
            "received": self._link.received,
            "judged": self._judged,
            "dropped_messages": self._link.dropped,
            "waiting": len(self._batcher),
        }

    def _watchdog(self) -> None:
        while not self._draining:
            time.sleep(1.0)
            if self._lanes.longest() > STUCK_S:
                log.critical("detector hangs: worker ends itself", worker=self._name, seconds=STUCK_S)
                os._exit(70)  # a hung device cannot be joined; the supervisor starts a fresh process
