"""What all sources share: one thread grabs while another may close."""

import threading
import time
from abc import ABC, abstractmethod

from ingest.sources.base import Grab
from ingest.sources.pacing import Pacer


class ClosableSource(ABC):
    """A source whose `close` never pulls the device from under a running `grab`.

    OpenCV's captures crash when they are released during a read. So whoever comes last releases: `close` if nobody
    grabs, else the grab on its way out. A waiting grab ends at once, a reading one at the latest with its time-out.
    """

    live: bool = True
    fps: float | None = None

    def __init__(self, *, pacer: Pacer | None = None) -> None:
        self._turn = threading.Lock()
        self._closed = threading.Event()
        self._pacer = pacer

    def grab(self) -> Grab | None:
        """See `ingest.sources.base.Source`."""
        try:
            with self._turn:
                if self._closed.is_set() or self._wait():
                    return None
                return self._next()
        finally:
            if self._closed.is_set():
                self.close()

    def close(self) -> None:
        """See `ingest.sources.base.Source`."""
        self._closed.set()
        if self._turn.acquire(blocking=False):
            try:
                self._release()
            finally:
                self._turn.release()

    def _wait(self) -> bool:
        """Wait until the next picture is due; True when closed meanwhile."""
        if self._pacer is None:
            return False
        return self._closed.wait(self._pacer.delay(time.monotonic()))

    @abstractmethod
    def _next(self) -> Grab | None:
        """Get the next picture; called by one thread at a time."""

    def _release(self) -> None:  # noqa: B027 - a source that holds nothing has nothing to let go of
        """Let go of the device; may be called again."""
