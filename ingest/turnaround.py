"""How long frames are under way, and how many may be at once: what keeps an overloaded line from judging nothing.

Without this, a line that captures more than its workers can judge sends the oldest frame each time, which is about to
miss its deadline, into a queue that is longer than its deadline: every frame is judged, and every one too late. So
frames that can no longer make it are given up where they wait, and no more are under way than come back in time; what
is judged then is judged in time.
"""

from collections import deque

_REMEMBERED = 16
_USUAL = 11  # of 16, sorted: three quarters come back as fast; a worker that was paused once is no rule
_MARGIN = 1.25
_CONGESTED, _LONGEST = 0.4, 0.5  # of the deadline: no more under way; what waiting frames may have to spare
_MOST = 4096


class Turnaround:
    """Follows the frames of one line from sending to acknowledgement. Pure: told the time.

    Frames under way are bounded as TCP bounds its window (additive increase, multiplicative decrease: Chiu and Jain,
    1989, "Analysis of the Increase and Decrease Algorithms"); a flight of 0.4 deadlines is the sign of congestion.

    Args:
        deadline_s: what a frame has from capture to verdict; None: all the time there is, and nothing is bounded.

    Attributes:
        window: how many frames may be under way at once.
    """

    def __init__(self, deadline_s: float | None) -> None:
        self._deadline_s = deadline_s
        self._latest: deque[float] = deque(maxlen=_REMEMBERED)
        self._halved = float("-inf")
        self._grown = 0.0
        self.window = _MOST

    @property
    def usual_s(self) -> float:
        """Seconds that most frames take, with a margin, at most half the deadline; 0 while that is not known."""
        if self._deadline_s is None or len(self._latest) < _REMEMBERED:
            return 0.0
        return min(_MARGIN * sorted(self._latest)[_USUAL], _LONGEST * self._deadline_s)

    def returned(self, sent: float, now: float, *, under_way: int) -> None:
        """Note that one of `under_way` frames, sent at `sent`, was acknowledged at `now`, monotonic seconds."""
        if self._deadline_s is None:
            return
        self._latest.append(now - sent)
        if now - sent <= _CONGESTED * self._deadline_s:
            self._grown += 1 / self.window
            if self._grown >= 1:
                self._grown, self.window = 0.0, min(self.window + 1, _MOST)
        elif sent >= self._halved:  # once for all that were under way together
            self._halved, self.window = now, max(1, min(self.window, under_way) // 2)
