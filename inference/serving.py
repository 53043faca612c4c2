"""Which engine judges which line, and how a promoted version takes over while frames keep coming.

Engines are loaded in a thread of their own and put in place by one assignment between batches; what was already being
judged is finished by the old one. A version that cannot be loaded changes nothing but the log: the last good one stays.
A line whose model never loaded has no engine, and its frames end as `unknown`.
"""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from inference.broken_promises import broken_promises
from inference.config import JudgeConfig
from inference.engine import Engine
from inference.errors import InferenceError
from inference.job import Job
from inference.judge import Standard
from inference.scene import SceneWatch
from ingest.errors import IngestError
from ingest.workerlink import View
from storage.errors import StorageError
from storage.models import Registry

RETRY_S = 30.0
"""A version that could not be loaded is tried again after so long: each try costs what judging frames could use."""
_END_S = 2.0

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, eq=False)
class Served:
    """One line's engine and standard; each taking over is one of its own, also of a model that was there before."""

    engine: Engine
    standard: Standard
    calibration_sha256: str | None

    def fits(self, job: Job) -> bool:
        """Whether a frame was prepared for this engine."""
        asked = job.header.preparation
        return job.pixels is not None and self.engine.preprocessing.made(job.pixels.shape, asked)


class Serving:
    """Engines by line; `refresh` follows promotions.

    Args:
        lines: what each line is judged by.
        registry: where models live.
        device: see `inference.engine.Engine`.
        threads: CPU threads of the detector, 0 for all.
        warm_up: largest batch to be judged; sizes up to it are run before an engine takes over.
    """

    def __init__(
        self, lines: Sequence[JudgeConfig], *, registry: Registry, device: str, threads: int, warm_up: int
    ) -> None:
        self._lines = {line.line: line for line in lines}
        self._registry, self._device, self._threads, self._warm_up = registry, device, threads, warm_up
        self._served: dict[str, Served] = {}
        self._failed: dict[str, str] = {}
        self._put_off: dict[str, tuple[tuple[str, str | None], float]] = {}
        """Line -> what it could not be given, and until when (monotonic seconds) that is not tried again."""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="models", daemon=True)

    def __getitem__(self, line: str) -> Served | None:
        """What judges `line` now; None while it has no usable model."""
        return self._served.get(line)

    @property
    def alive(self) -> bool:
        """Whether promotions are followed."""
        return self._thread.is_alive()

    def knows(self, line: str) -> bool:
        """Whether the configuration gives `line` to this worker."""
        return line in self._lines

    def start(self) -> None:
        """Load what is promoted now, then follow promotions in the background."""
        self.refresh()
        self._thread.start()

    def stop(self) -> None:
        """Stop following; a model that is just being loaded is not waited for."""
        self._stop.set()
        self._thread.join(_END_S)

    def refresh(self) -> None:
        """Load every engine whose promoted version, or that version's calibration, changed."""
        engines = {(s.engine.ref, s.calibration_sha256): s.engine for s in self._served.values()}
        for line, judge in self._lines.items():
            try:
                bundle = self._registry.resolve(judge.model)
                served = self._served.get(line)
                sealed = bundle.manifest.calibration_sha256
                key = (bundle.ref, sealed)
                if served is not None and (served.engine.ref, served.calibration_sha256) == key:
                    continue
                tried, until = self._put_off.get(line, (None, 0.0))
                if tried == key and time.monotonic() < until:
                    continue
                self._put_off[line] = key, time.monotonic() + RETRY_S
                if key not in engines:
                    bundle.verify()
                    engine = Engine(bundle, device=self._device, threads=self._threads)
                    engine.warm_up(self._warm_up)
                    engines[key] = engine
                engine = engines[key]
                if served is not None:  # the first one is taken, for capture to say why it judges nothing
                    View(roi=judge.roi, mask=judge.mask).apply(engine.preprocessing)
                self._served[line] = Served(engine, standard_of(engine, judge), sealed)
            except (StorageError, InferenceError, IngestError) as error:
                self._complain(line, str(error))
                continue
            except Exception as error:  # noqa: BLE001 - it is logged; no model may take the other lines' from them
                self._complain(line, f"{type(error).__name__}: {error}", trace=error)
                continue
            self._failed.pop(line, None)
            self._put_off.pop(line, None)
            standard = self._served[line].standard
            log.info("model in service", line=line, model=standard.model, threshold=round(standard.threshold, 4))

    def _watch(self) -> None:
        while not self._stop.wait(1.0):
            self.refresh()

    def _complain(self, line: str, why: str, *, trace: Exception | None = None) -> None:
        if self._failed.get(line) != why:
            self._failed[line] = why
            serving = self._served.get(line)
            kept = serving.engine.ref if serving else "none, its frames are unknown"
            log.error("model not usable", line=line, error=why, in_service=kept, exc_info=trace)


def standard_of(engine: Engine, judge: JudgeConfig) -> Standard:
    """What a line's frames are held to by this engine; promises that cannot be held are logged.

    Raises:
        InferenceError: the model is not calibrated, or its threshold needs to know how many frames are judged a second.
    """
    calibration = engine.calibration
    if calibration is None:
        raise InferenceError(f"{engine.ref} is not calibrated: linewatch calibrate {engine.ref} --data DIR")
    try:
        limit = calibration.limit(judge.false_alarms, fps=judge.fps, slack=judge.slack)
    except ValueError as error:
        raise InferenceError(f"line {judge.line} with {engine.ref}: {error}") from error
    for broken in broken_promises(calibration, limit, judge):
        log.warning("promise cannot be held", line=judge.line, model=engine.ref, why=broken.why, mend=broken.mend)
    return Standard(
        model=engine.ref,
        threshold=limit.threshold,
        calibration=calibration,
        basis=calibration.basis(slack=judge.slack, limit=limit),
        pixel_threshold=calibration.pixel_threshold(limit),
        slack=judge.slack,
        watch=None if calibration.scene is None else SceneWatch(calibration.scene),
    )
