"""The worker's thread that shows golden samples, and its word on whether a line's frames may be judged.

It judges a few samples at a time on one core, beside the frames. What it finds is told on the stream of challenges;
while Redis does not answer, results wait here, and the next ones are found all the same.
"""

import threading
import time
from collections.abc import Callable, Sequence
from datetime import tzinfo

import structlog

from inference.challenge import challenge_model
from inference.config import JudgeConfig
from inference.occasions import Showing, due
from inference.serving import Served
from storage.challenges import ChallengeStream
from storage.errors import StorageError
from storage.golden import GoldenSamples
from storage.records import Challenge
from storage.requests import GoldenRequests

TICK_S = 0.1
"""How soon a model that took over is challenged."""
POLL_S = 1.0
"""How often Redis is asked for requests, and given what it has not taken."""
PATIENCE_S = 2.0
"""How long the end of a worker waits for a showing under way."""
MISSED = "golden sample missed"
NOT_SHOWN = "golden samples not shown yet"
NO_SAMPLES = "no golden samples"

log = structlog.get_logger()


class Challenger:
    """Shows golden samples to what a worker serves: at its start, after a promotion, at each shift, and when asked.

    Args:
        lines: the worker's lines.
        serving: what judges a line now.
        samples: of all lines.
        requests: counters of requests.
        stream: where results go.
        worker: this worker's name in results.
        clock: gives the wall clock, nanoseconds since the epoch.
        zone: where shifts are local times; None: here.
    """

    def __init__(
        self,
        lines: Sequence[JudgeConfig],
        *,
        serving: Callable[[str], Served | None],
        samples: GoldenSamples,
        requests: GoldenRequests,
        stream: ChallengeStream,
        worker: str,
        clock: Callable[[], int] = time.time_ns,
        zone: tzinfo | None = None,
    ) -> None:
        self._lines = {line.line: line for line in lines}
        self._serving, self._samples, self._requests, self._stream = serving, samples, requests, stream
        self._worker, self._clock, self._zone = worker, clock, zone
        self._asked = dict.fromkeys(self._lines, 0)
        self._last: dict[str, Showing] = {}
        self._proofs: dict[str, tuple[Served | None, str | None]] = {}
        self._untold: list[Challenge] = []
        self._deaf = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="challenger", daemon=True)

    def start(self) -> None:
        """Challenge the lines that golden samples may block, at once: no frame need be refused for want of proof.

        The other lines follow in the background.
        """
        self.poll()
        for line in self._lines.values():
            if line.golden_blocks:
                self._turn(line)
        self._thread.start()

    def stop(self) -> None:
        """Stop, and tell what can be told; a showing that takes long is left: the next worker begins with its own."""
        self._stop.set()
        self._thread.join(PATIENCE_S)
        if not self._thread.is_alive():
            self.poll()

    @property
    def alive(self) -> bool:
        """Whether samples are shown when they are due."""
        return self._thread.is_alive()

    def refusal(self, line: str, served: Served) -> str | None:
        """Why frames of `line` must not be judged by `served`; None: they may. Any thread may ask."""
        if not self._lines[line].golden_blocks:
            return None
        challenged, reason = self._proofs.get(line, (None, None))
        return reason if challenged is served else NOT_SHOWN

    def poll(self) -> None:
        """Tell Redis what it has not been told, then ask it for requests."""
        try:
            self._stream.add(*self._untold)
            self._untold.clear()
            self._asked = self._requests.counts(list(self._lines))
        except StorageError as error:
            if not self._deaf:
                waiting = len(self._untold)
                log.warning("golden samples' results wait", worker=self._worker, waiting=waiting, error=str(error))
            self._deaf = True
            return
        self._deaf = False

    def _run(self) -> None:
        poll_at = 0.0
        while not self._stop.is_set():
            shown = [line for line in self._lines.values() if self._turn(line)]
            if shown or time.monotonic() >= poll_at:
                self.poll()
                poll_at = time.monotonic() + POLL_S
            self._stop.wait(TICK_S)

    def _turn(self, line: JudgeConfig) -> bool:
        """Show the samples of one line if that is due."""
        served, now_ns, asked = self._serving(line.line), self._clock(), self._asked[line.line]
        last = self._last.get(line.line)
        occasion = due(last, serving=served, now_ns=now_ns, asked=asked, shifts=line.shifts, zone=self._zone)
        if occasion is None:
            return False
        results = challenge_model(
            None if served is None else served.engine,
            None if served is None else served.standard,
            self._samples,
            line,
            worker=self._worker,
            occasion=occasion,
            now_ns=now_ns,
        )
        self._last[line.line] = Showing(served, now_ns, asked)
        missed = any(result.missed for result in results)
        self._proofs[line.line] = (served, MISSED if missed else None if results else NO_SAMPLES)
        self._untold += results
        _say(line, occasion, results)
        return True


def _say(line: JudgeConfig, occasion: str, results: Sequence[Challenge]) -> None:
    for result in results:
        if result.missed:
            log.error(
                MISSED,
                line=line.line,
                worker=result.worker,
                sample=result.image,
                expected=result.expected,
                got=result.status.value,
                reason=result.reason,
                score=result.score,
                threshold=result.threshold,
                model=result.model,
            )
    if results:
        log.info("golden samples shown", line=line.line, occasion=occasion, samples=len(results))
    elif line.golden_blocks:
        log.error("no golden samples: frames are unknown until there are some", line=line.line)
