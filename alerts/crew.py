"""The couriers at work: a thread for each sink, so that a slow one holds up no other."""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import structlog

from alerts.courier import DRAIN_S, Courier
from alerts.errors import AlertError

log = structlog.get_logger()


class Crew:
    """The couriers' threads. One that fails for a reason nobody foresaw ends the service, loudly.

    Args:
        couriers: one for each sink.
        stop: set when one has failed.
    """

    def __init__(self, couriers: Sequence[Courier], stop: threading.Event) -> None:
        self._couriers = couriers
        self._stop = stop
        self._ending = threading.Event()
        self._failure: Exception | None = None
        self._threads = [
            threading.Thread(target=self._work, args=(courier,), name="courier", daemon=True) for courier in couriers
        ]

    def start(self) -> None:
        """Begin to deliver."""
        for thread in self._threads:
            thread.start()

    def ring(self) -> None:
        """Say that there is something to deliver."""
        for courier in self._couriers:
            courier.ring()

    def end(self, patience_s: float) -> None:
        """Deliver what there is, for `patience_s` seconds at most."""
        self._ending.set()
        self.ring()
        deadline = time.monotonic() + patience_s
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def check(self) -> None:
        """Raise what ended a courier.

        Raises:
            AlertError: one has failed.
        """
        if self._failure is not None:
            raise AlertError(f"a delivery thread failed ({self._failure!r}): please report it") from self._failure

    def _work(self, courier: Courier) -> None:
        try:
            courier.run(self._ending)
        except Exception as error:
            log.exception("a delivery thread failed")
            self._failure = error
            self._stop.set()


@contextmanager
def at_work(couriers: Sequence[Courier], stop: threading.Event) -> Iterator[Crew]:
    """A crew for the length of a `with`; at its end they deliver what there is, for some seconds."""
    crew = Crew(couriers, stop)
    crew.start()
    try:
        yield crew
    finally:
        crew.end(DRAIN_S + 2.0)
