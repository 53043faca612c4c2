"""When the next frame of a source that keeps its own time is due."""

_FORGIVEN_S = 1.0  # after a longer stall (a suspended laptop, a debugger) nobody wants the missed frames in one burst


class Pacer:
    """Frame n is due at `start + n / fps`: neither rounding nor a late frame ever adds up to a drift.

    After a short delay the following frames come at once until the beat is caught up; a delay of more than a second
    starts a new beat.
    """

    def __init__(self, fps: float) -> None:
        self._fps = fps
        self._start: float | None = None
        self._count = 0

    def delay(self, now: float) -> float:
        """Seconds from `now` (monotonic) until the next frame is due; 0 when it is due already."""
        if self._start is None or now - (self._start + self._count / self._fps) > _FORGIVEN_S:
            self._start, self._count = now, 0
        due = self._start + self._count / self._fps
        self._count += 1
        return max(0.0, due - now)
