"""How the cores are shared among batches that are judged side by side.

One batch on all cores leaves them idle at every step that only one of them can do, and stalls on all when the system
takes one away for something else. Two batches on half the cores each do not: measured on two cores, 13 % more frames.
A batch that is alone still gets all cores, so that a single frame is judged as fast as it can be.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

MOST_LANES = 4


class Lanes:
    """Hands out cores to batches.

    Args:
        cores: CPU threads to share.
        single: judge one batch at a time, as on a GPU, which shares itself.
    """

    def __init__(self, cores: int, *, single: bool = False) -> None:
        self._cores = max(1, cores)
        self._lock = threading.Lock()
        self._since: dict[int, float] = {}
        self.count = 1 if single else min(self._cores, MOST_LANES)
        """Batches judged at once, at most."""

    @contextmanager
    def enter(self, lane: int) -> Iterator[int]:
        """Judge a batch; gives the number of threads to use."""
        with self._lock:
            self._since[lane] = time.monotonic()
            threads = max(1, self._cores // len(self._since))
        try:
            yield threads
        finally:
            with self._lock:
                del self._since[lane]

    def longest(self) -> float:
        """Seconds that the slowest batch under way has taken so far; 0 when there is none."""
        with self._lock:
            since = min(self._since.values(), default=None)
        return 0.0 if since is None else time.monotonic() - since
