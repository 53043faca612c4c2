"""Which pictures a worker keeps: of what did not pass, now and then of what hardly did, and a line's latest.

A picture is never worth a verdict: one that cannot be written is counted and logged, and its verdict goes on without.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

import structlog

from inference.judge import Judged
from inference.tally import Tally
from ingest.errors import ImageError
from ingest.pictures import check_size
from ingest.preprocess import RGB
from ingest.wire import Portrait
from storage.errors import StorageError
from storage.evidence import EvidenceStore
from storage.records import Status, Verdict

UNKNOWN_S = 1.0
"""At most one picture per line in this time for frames that were not judged: an overload must not feed itself."""
WEAK_S = 1.0
"""And for frames that passed, but speak against the scene: evidence that adds up to an alert has a picture to show."""
LATEST_S = 1.0
"""How often the picture shown as a line's latest is replaced."""
MAX_PORTRAIT_BYTES = 256 * 1024 * 1024
"""Bound on the full-resolution pictures that wait to be written; further ones are not kept."""

T = TypeVar("T")

log = structlog.get_logger()


class Pace:
    """What is done at most once per line in a time.

    Args:
        every_s: that time, seconds.
    """

    def __init__(self, every_s: float) -> None:
        self._every_s = every_s
        self._last: dict[str, float] = {}

    def due(self, line: str) -> bool:
        """Whether it is time again; then it counts as done."""
        now = time.monotonic()
        if now - self._last.get(line, float("-inf")) < self._every_s:
            return False
        self._last[line] = now
        return True


class Pictures:
    """The pictures of one worker; for the recorder's thread, but for `admit`.

    Args:
        evidence: where they are kept.
        tally: counts what could not be.
        worker: its name, for the log.
    """

    def __init__(self, evidence: EvidenceStore, *, tally: Tally, worker: str) -> None:
        self._evidence, self._tally, self._worker = evidence, tally, worker
        self._unknown, self._weak, self._latest = Pace(UNKNOWN_S), Pace(WEAK_S), Pace(LATEST_S)
        self._lock = threading.Lock()
        self._waiting_bytes = 0

    def illustrate(self, judged: Judged) -> Judged:
        """Keep the picture of a frame that deserves one; its verdict then says where."""
        pixels = judged.job.pixels
        if pixels is None or not self._telling(judged):
            return judged
        folder = self._keep(lambda: self._put(judged, pixels), of=judged.verdict.id)
        return replace(judged, verdict=judged.verdict.model_copy(update={"evidence": folder}))

    def wants_portrait(self, verdict: Verdict) -> bool:
        """Whether to ask for the full-resolution picture: there is evidence to go with it, or it is to be shown."""
        return verdict.evidence is not None or self._latest.due(verdict.line)

    def admit(self, jpeg: bytes) -> bool:
        """Make room for a picture that will wait to be hung (any thread); False when there is none."""
        with self._lock:
            if self._waiting_bytes + len(jpeg) > MAX_PORTRAIT_BYTES:
                return False
            self._waiting_bytes += len(jpeg)
            return True

    def release(self, jpeg: bytes) -> None:
        """Give back the room of a picture that no longer waits (any thread)."""
        with self._lock:
            self._waiting_bytes -= len(jpeg)

    def hang(self, portrait: Portrait, jpeg: bytes) -> None:
        """Put a full-resolution picture where it belongs: with its evidence, and before the operator."""
        self._keep(lambda: self._hang(portrait, jpeg), of=f"{portrait.line}/{portrait.run}/{portrait.seq}")

    def prune(self) -> None:
        """Bring the evidence back within its bounds."""
        self._keep(self._evidence.prune)

    def _telling(self, judged: Judged) -> bool:
        verdict, standard = judged.verdict, judged.standard
        if verdict.status is Status.UNKNOWN:
            return self._unknown.due(verdict.line)
        if verdict.status is Status.PASS:
            return standard is not None and standard.speaks_against(verdict) and self._weak.due(verdict.line)
        return True

    def _put(self, judged: Judged, pixels: RGB) -> str:
        header, region = judged.job.header, judged.verdict.region
        anomaly_map, threshold = judged.anomaly_map, judged.verdict.threshold
        if anomaly_map is not None and judged.standard is not None:
            anomaly_map, threshold = judged.standard.drawn(anomaly_map)
        return self._evidence.put(
            line=header.line,
            run=header.run,
            seq=header.seq,
            frame=pixels,
            anomaly_map=anomaly_map,
            threshold=threshold,
            box=None if region is None else region.box,
            captured_ns=header.wall_ns,
        )

    def _hang(self, portrait: Portrait, jpeg: bytes) -> None:
        try:
            check_size(jpeg, f"portrait of {portrait.line}/{portrait.run}/{portrait.seq}")
        except ImageError as exc:  # a browser would decode it, whatever its header says
            raise StorageError(str(exc)) from exc
        self._evidence.portrait(line=portrait.line, run=portrait.run, seq=portrait.seq, jpeg=jpeg)
        self._evidence.latest(portrait.line, jpeg)

    def _keep(self, write: Callable[[], T], *, of: str | None = None) -> T | None:
        try:
            return write()
        except StorageError as error:
            self._tally.evidence_failed()
            log.error("evidence not kept", verdict=of, worker=self._worker, error=str(error))  # noqa: TRY400 - one line
            return None
