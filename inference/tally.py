"""What a worker counts for its heartbeat: in bounded room, and read by people and metrics only."""

import threading
from typing import Any

from storage.measures import BATCH, LATENCY_S, Histogram

_MOST_LINES = 256
"""More lines than this share their distribution of latencies under no name: the heartbeat stays small."""


class Tally:
    """Counters of one start of a worker; threads may share it.

    Attributes:
        batch_size: frames judged at once.
        judge_s: seconds the detector took for a batch.
        store_s: seconds until a batch of verdicts was stored, with all repetitions.
    """

    def __init__(self) -> None:
        self.batch_size = Histogram(BATCH)
        self.judge_s = Histogram(LATENCY_S)
        self.store_s = Histogram(LATENCY_S)
        self._verdict_s: dict[str, Histogram] = {}
        self._lock = threading.Lock()
        self._store_retries = self._evidence_failures = self._refused = 0

    def judged(self, frames: int, seconds: float) -> None:
        """Note a batch that the detector has judged."""
        self.batch_size.observe(frames)
        self.judge_s.observe(seconds)

    def stored(self, line: str, latency_s: float) -> None:
        """Note that a verdict is stored, `latency_s` after its frame was captured, by the two hosts' wall clocks."""
        histogram = self._verdict_s.get(line)
        if histogram is None:
            with self._lock:
                name = line if len(self._verdict_s) < _MOST_LINES else ""
                histogram = self._verdict_s.setdefault(name, Histogram(LATENCY_S))
        histogram.observe(latency_s)

    def store_retried(self) -> None:
        """Note a storage step that has to be done again."""
        with self._lock:
            self._store_retries += 1

    def evidence_failed(self) -> None:
        """Note evidence that could not be kept."""
        with self._lock:
            self._evidence_failures += 1

    def refused(self) -> None:
        """Note a beat, gap or portrait for which there was no room; it is told again."""
        with self._lock:
            self._refused += 1

    def told(self) -> dict[str, Any]:
        """Everything, as JSON can hold it."""
        with self._lock:
            lines = dict(self._verdict_s)
            counters = {
                "store_retries": self._store_retries,
                "evidence_failures": self._evidence_failures,
                "refused": self._refused,
            }
        return {
            **counters,
            "batch_size": self.batch_size.told(),
            "judge_s": self.judge_s.told(),
            "store_s": self.store_s.told(),
            "verdict_s": {line: histogram.told() for line, histogram in lines.items()},
        }
