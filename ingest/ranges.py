"""Sets of sequence numbers kept as stretches, so that an hour without workers costs a few bytes."""

from bisect import bisect_left
from collections.abc import Iterator


class Ranges:
    """A set of whole numbers stored as sorted, disjoint, non-adjacent `(first, last)` stretches, both included."""

    def __init__(self) -> None:
        self._stretches: list[tuple[int, int]] = []

    def add(self, first: int, last: int) -> None:
        """Include `first` to `last`."""
        left = bisect_left(self._stretches, first - 1, key=lambda stretch: stretch[1])
        right = left
        while right < len(self._stretches) and self._stretches[right][0] <= last + 1:
            first = min(first, self._stretches[right][0])
            last = max(last, self._stretches[right][1])
            right += 1
        self._stretches[left:right] = [(first, last)]

    def remove(self, first: int, last: int) -> None:
        """Exclude `first` to `last`; numbers that are not in the set are ignored."""
        kept: list[tuple[int, int]] = []
        left = bisect_left(self._stretches, first, key=lambda stretch: stretch[1])
        right = left
        while right < len(self._stretches) and self._stretches[right][0] <= last:
            low, high = self._stretches[right]
            if low < first:
                kept.append((low, first - 1))
            if high > last:
                kept.append((last + 1, high))
            right += 1
        self._stretches[left:right] = kept

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(self._stretches)

    def __len__(self) -> int:
        """How many numbers are in the set."""
        return sum(last - first + 1 for first, last in self._stretches)

    def __bool__(self) -> bool:
        return bool(self._stretches)
