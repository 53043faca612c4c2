"""Delivers what is in the outbox to one sink, at least once, in order within an alert, until it is taken."""

import random
import threading
import time

import structlog

from alerts.errors import SinkError
from alerts.sinks.base import Sink
from storage.deliveries import LONGEST_PAUSE_S, Delivery
from storage.errors import StorageError
from storage.history import History

log = structlog.get_logger()

DRAIN_S = 5.0
"""How long an ending courier goes on telling what is due."""
FORGET_NS = 7 * 86_400 * 1_000_000_000
"""A message is kept this long after it was taken; the alert it was of stays."""
_FORGET_EVERY_S = 3600.0
_LOOK_EVERY_S = 2.0
_NS = 1_000_000_000


def pause_s(attempts: int, chance: float) -> float:
    """Seconds before the next try after `attempts` failures: 1, 2, 4, … up to ten minutes, times 0.5 to 1 by `chance`.

    `chance` is uniform in [0, 1], so that receivers that were down are not met by all senders at once ("full jitter",
    halved, of Brooker, Exponential Backoff And Jitter, 2015).
    """
    return float(min(LONGEST_PAUSE_S, 2.0 ** min(attempts, 16)) * (0.5 + chance / 2))


class Courier:
    """Serves one sink; a slow one holds no other.

    Args:
        name: of the sink in the outbox.
        sink: the receiver.
        history: holds the outbox.

    Attributes:
        name: of the sink.
        delivered, failed: attempts since the start.
    """

    def __init__(self, name: str, sink: Sink, history: History) -> None:
        self.name = name
        self.delivered = self.failed = 0
        self._sink = sink
        self._history = history
        self._bell = threading.Event()
        self._in_trouble = False
        self._waiting = False
        self._forget_at = float("-inf")

    def ring(self) -> None:
        """There is something to deliver."""
        self._bell.set()

    def run(self, stop: threading.Event) -> None:
        """Deliver until `stop` is set (ring then), and after it what is due, for at most `DRAIN_S`."""
        try:
            while not stop.is_set():
                self._round(stop)
                self._bell.wait(_LOOK_EVERY_S)
                self._bell.clear()
            deadline = time.monotonic() + DRAIN_S
            while time.monotonic() < deadline and self._round(None, deadline):
                pass
        finally:
            self._sink.close()

    def _round(self, stop: threading.Event | None, deadline: float = float("inf")) -> bool:
        """Try each delivery that is due once. Returns whether any was taken: more may be due then."""
        taken = False
        try:
            for delivery in self._history.due(self.name, now_ns=time.time_ns()):
                if (stop is not None and stop.is_set()) or time.monotonic() >= deadline:
                    break
                taken |= self._try(delivery)
            self._forget(time.monotonic())
        except StorageError as error:
            # Nothing is lost: the outbox still holds it, and a repetition has the same key.
            if not self._waiting:
                log.warning("deliveries wait", sink=self.name, because=str(error))
                self._waiting = True
            return False
        self._waiting = False
        if taken:
            self._bell.set()
        return taken

    def _forget(self, now: float) -> None:
        """Drop what was taken long ago: a service that runs for years must not keep every message it ever sent."""
        if now >= self._forget_at:
            self._forget_at = now + _FORGET_EVERY_S
            self._history.forget_delivered(before_ns=time.time_ns() - FORGET_NS)

    def _try(self, delivery: Delivery) -> bool:
        try:
            self._sink.deliver(delivery)
        except SinkError as error:
            self.failed += 1
            pause = pause_s(delivery.attempts, random.random())
            self._history.postponed(delivery, next_try_ns=time.time_ns() + round(pause * _NS))
            if not self._in_trouble:  # said once; the outbox counts the rest
                log.warning(
                    "a sink does not take alerts; they are kept and tried again",
                    sink=self.name,
                    alert=delivery.alert,
                    change=delivery.change.value,
                    because=str(error),
                )
                self._in_trouble = True
            return False
        self._history.delivered(delivery, now_ns=time.time_ns())
        self.delivered += 1
        if self._in_trouble:
            log.info("the sink takes alerts again", sink=self.name, alert=delivery.alert)
            self._in_trouble = False
        return True
