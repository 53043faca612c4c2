"""The worker process: a frame's way from the wire to storage, one thread per step.

::

    link (receive) ─> batcher ─> prepare (stack) ─> compute (detector) ─> recorder (store) ─> link (acknowledge)

Batches computed side by side are recorded in the order in which they were taken (`inference.turns`).

Each arrow is bounded: by credits in front of the batcher, by queues behind it. So the detector never waits for frames
that have arrived, and nothing piles up behind it.
"""

import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import structlog
from numpy.typing import NDArray

from inference.batching import Batcher
from inference.bereaved import Bereaved
from inference.challenger import Challenger
from inference.config import JudgeConfig, WorkerConfig
from inference.engine import Engine, Judgement, choose_device
from inference.grouping import Grouping
from inference.inspection import Inspection, Inspector
from inference.job import Job
from inference.lanes import Lanes
from inference.link import Link
from inference.recorder import Recorded, Recorder
from inference.serving import Serving
from inference.turns import Turns
from ingest.frame import new_run
from ingest.preprocess import Preprocessing
from storage.captures import Captures
from storage.challenges import ChallengeStream
from storage.config import StorageConfig
from storage.evidence import EvidenceStore
from storage.golden import GoldenSamples
from storage.lines import Lines
from storage.models import Registry
from storage.requests import GoldenRequests
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
    """Frames of one model in order of time; those without a reason not to be are judged."""

    model: str
    ticket: int
    frames: list[Inspection]
    engine: Engine
    pixels: NDArray[np.uint8]  # [B, h, w, 3], of those that are judged


def serve(
    config: WorkerConfig,
    *,
    endpoint: str,
    lines: Sequence[JudgeConfig],
    storage: StorageConfig,
    keys: Path | None,
    stop: threading.Event,
    moves: Callable[[str], None] = lambda _: None,
    waits: Callable[[str], None] = lambda _: None,
) -> int:
    """Judge frames until `stop` is set; then finish what was received and return 0.

    `moves` is told the name of a loop at each of its turns, `waits` that of one which may now take any time or has
    ended.

    Raises:
        IngestError: the endpoint cannot be bound.
        EngineError: the asked device does not exist.
    """
    sys.setswitchinterval(SWITCH_S)
    worker = Worker(config, endpoint=endpoint, lines=lines, storage=storage, keys=keys, moves=moves, waits=waits)
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
        moves: Callable[[str], None] = lambda _: None,
        waits: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._config = config
        self._moves, self._waits = moves, waits
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
        self._evidence = EvidenceStore(storage.evidence, storage.retention)
        self._recorder = Recorder(
            lines=Lines(client),
            workers=Workers(client),
            evidence=self._evidence,
            name=config.name,
            acknowledge=self._acknowledge,
            info=self._info,
            captures=Captures(client),
            bereaved=Bereaved(Lines(client), self._models, worker=config.name),
            moves=partial(moves, "recorder"),
            waits=partial(waits, "recorder"),
        )
        self._challenger = Challenger(
            lines,
            serving=self._serving.__getitem__,
            samples=GoldenSamples(storage.golden),
            requests=GoldenRequests(client),
            stream=ChallengeStream(client),
            worker=config.name,
        )
        self._grouping = Grouping(
            serving=self._serving.__getitem__, refusal=self._challenger.refusal, retry=self._retry
        )
        self._inspector = Inspector(config.name)
        self._batcher: Batcher[str, Job] = Batcher(max_batch=config.max_batch)
        # One for each model, so that no line waits for the batch of a slower one.
        self._turns = {model: Turns(self._recorder.put) for model in self._models.values()}
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
            pinned=self._pinned,
            frame=self._receive,
            told=self._recorder.tell,
        )

    def run(self, stop: threading.Event) -> None:
        """Serve until `stop`, then drain."""
        self._serving.start()
        self._recorder.start()
        self._challenger.start()
        steps = [
            threading.Thread(target=self._prepare, name="prepare", daemon=True),
            *(
                threading.Thread(target=self._compute, args=(lane,), name=f"compute {lane}", daemon=True)
                for lane in range(self._lanes.count)
            ),
        ]
        for step in steps:
            step.start()
        threading.Thread(target=self._watchdog, args=(steps,), name="watchdog", daemon=True).start()
        log.info("worker ready", worker=self._name, models=sorted(set(self._models.values())))
        self._link.serve(stop, partial(self._moves, "link"))
        self._waits("link")
        with self._arrived:
            self._draining = True
            self._arrived.notify_all()
        for step in steps:
            self._moves("end")
            step.join(DRAIN_S)
        self._moves("end")
        self._recorder.stop(patience_s=DRAIN_S)
        self._waits("recorder")
        self._moves("end")
        self._challenger.stop()
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

    def _pinned(self, line: str) -> bool:
        served = self._serving[line]
        return served is not None and served.standard.calibration.smoothing > 1

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
            model, batch = taken
            for group in self._grouping.groups(batch):
                ticket = self._turns[model].ticket()
                pixels = group.pixels()
                if group.engine is None or pixels is None:
                    self._conclude(model, ticket, group.frames, None)
                else:
                    self._prepared.put(_Prepared(model, ticket, group.frames, group.engine, pixels))

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
                verdicts = [frame.job.header.id for frame in prepared.frames]
                log.exception(
                    "detector failed",
                    worker=self._name,
                    model=prepared.engine.ref,
                    frames=len(verdicts),
                    verdicts=verdicts,
                )
                self._conclude(prepared.model, prepared.ticket, prepared.frames, None)
                continue
            took_s = time.monotonic() - started
            self._recorder.tally.judged(len(judgement), took_s)
            with self._arrived:
                self._batcher.observe(prepared.model, len(judgement), took_s)
                self._judged += len(judgement)
            self._conclude(prepared.model, prepared.ticket, prepared.frames, judgement)

    # any thread

    def _conclude(self, model: str, ticket: int, frames: list[Inspection], judgement: Judgement | None) -> None:
        """Verdicts are made in the recorder's thread: the detector goes on with the next batch meanwhile."""
        conclude = partial(self._inspector.conclude, frames, judgement, time.time_ns())
        self._turns[model].give(ticket, conclude)

    def _acknowledge(self, recorded: Recorded) -> None:
        self._link.acknowledge(recorded)

    def _info(self) -> dict[str, object]:
        queued, limit = self._recorder.depth
        return {
            "worker": self._name,
            "pid": os.getpid(),
            "wall_ns": time.time_ns(),
            "received": self._link.received,
            "judged": self._judged,
            "dropped_messages": self._link.dropped,
            "strangers": self._link.strangers,
            "waiting": len(self._batcher),
            "recorder_queue": queued,
            "recorder_queue_limit": limit,
            "evidence_bytes": self._evidence.held_bytes,
            **self._recorder.tally.told(),
        }

    def _watchdog(self, steps: Sequence[threading.Thread]) -> None:
        while not self._draining:
            time.sleep(1.0)
            if self._lanes.longest() > STUCK_S:
                log.critical("detector hangs: worker ends itself", worker=self._name, seconds=STUCK_S)
                os._exit(70)  # a hung device cannot be joined; the supervisor starts a fresh process
            alive = {step.name: step.is_alive() for step in steps}
            alive |= {
                "recorder": self._recorder.alive,
                "models": self._serving.alive,
                "challenger": self._challenger.alive,
            }
            ended = [name for name, lives in alive.items() if not lives]
            if ended and not self._draining:
                log.critical("a step failed: worker ends itself", worker=self._name, steps=ended)
                os._exit(70)
