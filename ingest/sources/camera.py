"""A camera: always live, gone at times, and worth reconnecting to."""

from collections.abc import Callable

from ingest.errors import SourceError
from ingest.sources.base import Grab
from ingest.sources.capture import Capture
from ingest.sources.closing import ClosableSource


class Camera(ClosableSource):
    """Connects at a grab, not before: a camera that is still booting is no reason not to start.

    Args:
        called: what errors call it; holds no password.
        connect: opens the camera; raises SourceError.
    """

    live = True

    def __init__(self, called: str, connect: Callable[[], Capture]) -> None:
        super().__init__()
        self._called = called
        self._connect = connect
        self._capture: Capture | None = None
        self._count = 0

    def _next(self) -> Grab:
        if self._capture is None:
            self._capture = self._connect()
        alive, picture = self._capture.read()
        if not alive:
            self._release()
            raise SourceError(f"{self._called}: no picture came; the camera is gone or hangs (reconnecting)")
        self._count += 1
        return Grab(picture, name=f"frame {self._count - 1}")

    def _release(self) -> None:
        if self._capture is not None:
            self._capture.close()
            self._capture = None
