"""Video files: `file.mp4[?rate=max&loop=1]`."""

from pathlib import Path
from typing import Literal

import cv2
import structlog

from ingest.errors import SourceError
from ingest.frame import Picture
from ingest.sources.base import Grab
from ingest.sources.capture import Capture
from ingest.sources.closing import ClosableSource
from ingest.sources.pacing import Pacer
from ingest.sources.urls import SourceOptions, read_options

log = structlog.get_logger()

_FALLBACK_FPS = 25.0
_HIGHEST_FPS = 1000.0  # a container that says more says nothing


class VideoOptions(SourceOptions):
    """Options of a video file."""

    rate: Literal["own", "max"] = "own"
    """`own`: at the video's frame rate, like a camera (live). `max`: as fast as they are taken (not live)."""
    loop: bool = False
    """Start again at the end, for ever."""


class VideoSource(ClosableSource):
    """A video file, decoded by OpenCV's FFmpeg.

    A file that ends before its container says so (a truncated copy) ends early, with one warning.

    Raises:
        SourceError: missing, empty, not a video, or without a frame that can be decoded.
    """

    def __init__(self, path: Path, query: str = "") -> None:
        options = read_options(VideoOptions, query, of=str(path))
        if not path.is_file():
            raise SourceError(f"{path}: no such file")
        if path.stat().st_size == 0:
            raise SourceError(f"{path}: the file is empty (0 bytes)")
        self.live = options.rate == "own"
        self._path = path
        self._loop = options.loop
        self._warned = False
        self._capture = self._open()
        fps = self._capture.number(cv2.CAP_PROP_FPS)
        self.fps = fps if 0 < fps <= _HIGHEST_FPS else None
        if self.live and self.fps is None:
            log.warning("video_without_rate", file=str(path), rate=fps, played_at=_FALLBACK_FPS)
            fps = _FALLBACK_FPS
        super().__init__(pacer=Pacer(fps) if self.live else None)

    def _open(self) -> Capture:
        # An absolute path: FFmpeg would take `concat:…` and the like for a protocol.
        try:
            capture = Capture(str(self._path.absolute()), backend=cv2.CAP_FFMPEG, called=str(self._path))
        except SourceError as error:
            raise SourceError(f"{self._path}: not a video that can be read (unknown format or damaged)") from error
        # The first frame is read here, so that a file without any fails now, and a loop never spins on one.
        alive, first = capture.read()
        if not alive:
            capture.close()
            raise SourceError(f"{self._path}: a video without a frame that can be decoded")
        self._first: list[Picture | None] = [first]
        self._delivered = 0
        return capture

    def _next(self) -> Grab | None:
        alive, picture = (True, self._first.pop()) if self._first else self._capture.read()
        if not alive:
            self._check_promise()
            if not self._loop:
                return None
            self._capture.close()
            self._capture = self._open()
            alive, picture = True, self._first.pop()
        self._delivered += 1
        return Grab(picture, name=f"{self._path.name} frame {self._delivered - 1}")

    def _check_promise(self) -> None:
        promised = round(self._capture.number(cv2.CAP_PROP_FRAME_COUNT))
        if self._delivered < promised and not self._warned:
            self._warned = True
            log.warning("video_incomplete", file=str(self._path), delivered=self._delivered, promised=promised)

    def _release(self) -> None:
        self._first.clear()
        self._capture.close()
