"""Which frames are judged together, and which come too late to be judged at all.

The detector never waits while there is work: whenever it is free, the batcher hands out the most urgent frames of one
model, as many as its predicted compute time lets make the earliest deadline among them. Waiting for a fuller batch
would only add latency: batches grow by themselves while the detector is busy, and just as far as the load needs.

Pure: no clock, no thread. Times are monotonic seconds.
"""

import heapq
import itertools
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")

_NEVER = float("inf")


class LatencyModel:
    """Compute time of a batch of n images as `fixed + n * per_image` seconds, fitted to what was seen.

    Least squares over exponentially forgotten observations, so that a clock change or a busy neighbour is followed
    within some tens of batches. Both terms are kept non-negative.
    """

    def __init__(self, *, forget: float = 0.95) -> None:
        self._forget = forget
        self._w = self._n = self._t = self._nn = self._nt = 0.0

    def observe(self, n: int, seconds: float) -> None:
        """Learn from one batch."""
        for name, value in (("_w", 1.0), ("_n", n), ("_t", seconds), ("_nn", n * n), ("_nt", n * seconds)):
            setattr(self, name, getattr(self, name) * self._forget + value)

    def predict(self, n: int) -> float:
        """Seconds for a batch of `n`; 0 before anything was seen."""
        if self._w == 0:
            return 0.0
        spread = self._w * self._nn - self._n**2
        if spread < 1e-6 * self._w * self._nn:  # only one batch size seen so far: cost in proportion
            return n * self._t / self._n
        per_image = (self._w * self._nt - self._n * self._t) / spread
        per_image = min(max(per_image, 0.0), self._t / self._n)
        fixed = (self._t - per_image * self._n) / self._w
        return fixed + n * per_image


@dataclass(order=True, slots=True)
class _Waiting(Generic[T]):
    deadline: float
    order: int
    item: T = field(compare=False)


@dataclass(frozen=True, slots=True)
class Batch(Generic[T]):
    """Frames of one model to be judged together, most urgent first, and those whose time has passed."""

    items: list[T]
    late: list[T]


class Batcher(Generic[K, T]):
    """Frames waiting for the detector, by model, most urgent first.

    Args:
        max_batch: most frames in one batch.
    """

    def __init__(self, *, max_batch: int) -> None:
        self._max_batch = max_batch
        self._queues: dict[K, list[_Waiting[T]]] = {}
        self._latency: dict[K, LatencyModel] = {}
        self._order = itertools.count()

    def __len__(self) -> int:
        return sum(map(len, self._queues.values()))

    def add(self, item: T, *, key: K, deadline: float | None) -> None:
        """Queue a frame of model `key`; `deadline` None: whenever there is time."""
        waiting = _Waiting(_NEVER if deadline is None else deadline, next(self._order), item)
        heapq.heappush(self._queues.setdefault(key, []), waiting)

    def observe(self, key: K, n: int, seconds: float) -> None:
        """Tell how long a batch of model `key` took."""
        self._latency.setdefault(key, LatencyModel()).observe(n, seconds)

    def take(self, now: float) -> tuple[K, Batch[T]] | None:
        """The next batch, of the model whose first frame is the most urgent; None when nothing waits."""
        waiting = [(queue[0], key) for key, queue in self._queues.items() if queue]
        if not waiting:
            return None
        key = min(waiting, key=lambda pair: pair[0])[1]
        queue, latency = self._queues[key], self._latency.get(key, LatencyModel())
        late = self._doomed(queue, now, latency.predict(1))
        items: list[T] = []
        earliest = _NEVER
        while queue and len(items) < self._max_batch:
            earliest = min(earliest, queue[0].deadline)
            if items and now + latency.predict(len(items) + 1) > earliest:
                break
            items.append(heapq.heappop(queue).item)
        return key, Batch(items, late)

    def _doomed(self, queue: list[_Waiting[T]], now: float, alone: float) -> list[T]:
        """Remove what cannot make its deadline any more, so that under overload the others still can.

        The last one is tried as long as its time has not passed: a prediction that is too high could otherwise never
        be corrected.
        """
        late: list[T] = []
        while queue and (queue[0].deadline < now or (len(queue) > 1 and queue[0].deadline < now + alone)):
            late.append(heapq.heappop(queue).item)
        return late
