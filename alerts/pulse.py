"""Signs of life of every line, measured with the monotonic clock of this process.

Clocks of several machines are never compared: whatever changes in a line's state is a sign of life, now.
"""

from collections.abc import Iterable

from alerts.state import Signs
from storage.records import LineState, Verdict


class Pulse:
    """Listens to all lines.

    Args:
        now: monotonic seconds. A line counts as heard of at the start: silence is what this process has listened to.
        grace_s: how much longer a line may take to be heard of for the first time.
    """

    def __init__(self, now: float, *, grace_s: float = 0.0) -> None:
        self._since = now
        self._awaited = now + grace_s
        self._states: dict[str, LineState] = {}
        self._heard: dict[str, float] = {}
        self._handled: dict[str, float] = {}

    def listen(self, states: Iterable[LineState], now: float) -> None:
        """Note what is known of the lines at `now`, monotonic seconds."""
        for state in states:
            if self._states.get(state.line) != state:
                self._heard[state.line] = now
            self._states[state.line] = state

    def handle(self, verdicts: Iterable[Verdict], now: float) -> None:
        """Note verdicts that were applied at `now`, monotonic seconds."""
        for verdict in verdicts:
            self._heard[verdict.line] = self._handled[verdict.line] = now

    def deaf(self, now: float) -> None:
        """Note that nothing could be heard up to `now`: that was no silence of the lines."""
        self._since = now

    def states(self) -> list[LineState]:
        """What is known of each line."""
        return list(self._states.values())

    def signs(self, line: str, now: float) -> Signs:
        """What the rules want to know of a line at `now`, monotonic seconds."""
        state = self._states.get(line, LineState(line=line))
        return Signs(
            silent_s=max(0.0, now - max(self._heard.get(line, self._awaited), self._since)),
            calm_s=now - max(self._handled.get(line, self._since), self._since),
            in_flight=state.open,
            camera=state.camera,
            run=state.run,
            seq=max(0, state.next_seq - 1),
        )
