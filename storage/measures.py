"""Distributions in bounded room: how often a value fell into each of a few ranges, as Prometheus counts them."""

import threading
from bisect import bisect_left
from collections.abc import Sequence
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

LATENCY_S = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5, 2.0, 5.0, 10.0)
"""Upper ends of ranges of a latency, seconds."""
BATCH = (1, 2, 4, 8, 16, 32, 64, 128)
"""Upper ends of ranges of a batch's size."""


class Buckets(BaseModel):
    """What a histogram has seen so far, on its way from one process to another."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    bounds: tuple[float, ...] = Field(max_length=32)
    """Upper ends of the ranges, included, ascending; the last range has none."""
    counts: tuple[int, ...]
    """Values in each range, one more than `bounds`."""
    sum: float

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if len(self.counts) != len(self.bounds) + 1 or list(self.bounds) != sorted(set(self.bounds)):
            raise ValueError("counts must be one more than bounds, and bounds must ascend")
        return self

    @classmethod
    def read(cls, value: Any) -> Self | None:
        """Read what another process told; None: it told none, or none of this version."""
        try:
            return cls.model_validate(value)
        except ValidationError:
            return None

    def cumulative(self) -> list[tuple[str, float]]:
        """Upper end, as text, and how many values lie at or below it; the last one is `+Inf`, all of them."""
        total, rows = 0, []
        for bound, count in zip((*map(str, self.bounds), "+Inf"), self.counts, strict=True):
            total += count
            rows.append((bound, float(total)))
        return rows


class Histogram:
    """Counts values; threads may share it.

    Args:
        bounds: upper ends of the ranges, ascending.
    """

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = tuple(map(float, bounds))
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0
        self._lock = threading.Lock()

    def observe(self, value: float) -> None:
        """Count one value; less than nothing, which clocks that disagree can give, counts as 0."""
        value = max(0.0, value)
        with self._lock:
            self._counts[bisect_left(self._bounds, value)] += 1
            self._sum += value

    def told(self) -> dict[str, Any]:
        """`Buckets` as JSON can hold it."""
        with self._lock:
            return {"bounds": list(self._bounds), "counts": list(self._counts), "sum": self._sum}
