"""What is computed side by side, handed on in the order in which it was begun.

Batches overtake each other where several are judged at once. Maps are averaged over the frames of a line in order of
time (`inference.smoothing`), so each batch draws a ticket before it is judged, and its result waits for those of all
tickets before it. It waits no longer than the slowest batch under way takes; a batch that failed gives its result too,
and one that hangs ends the worker.
"""

import itertools
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Turns(Generic[T]):
    """Results in order of their tickets.

    Args:
        release: called with each result in turn, by whichever thread gave the one that was waited for; while it blocks,
            others that give wait too.
    """

    def __init__(self, release: Callable[[T], None]) -> None:
        self._release = release
        self._tickets = itertools.count()
        self._lock = threading.Lock()
        self._next = 0
        self._early: dict[int, T] = {}

    def ticket(self) -> int:
        """Take the next place; a result must be given for each. Never waits; for one thread."""
        return next(self._tickets)

    def give(self, ticket: int, result: T) -> None:
        """Hand over a ticket's result, from any thread."""
        with self._lock:
            self._early[ticket] = result
            while self._next in self._early:
                due = self._early.pop(self._next)
                self._next += 1
                self._release(due)
