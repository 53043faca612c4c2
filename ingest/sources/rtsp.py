"""Network cameras: `rtsp://…`, `rtsps://…`, and motion JPEG over `http://…` or `https://…`.

The whole address belongs to the camera, its `?` part too, so there are no options of ours in it.
"""

import cv2

from ingest.errors import SourceError
from ingest.sources.camera import Camera
from ingest.sources.capture import Capture
from ingest.sources.urls import redacted

OPEN_TIMEOUT_S = 10.0
READ_TIMEOUT_S = 5.0
# Each further thread holds back one frame: it comes late, and when the camera hangs it comes, stale, a read time-out
# later. OpenCV's default is one thread per core.
_DECODER_THREADS = 1


def open_rtsp(url: str, *, open_timeout_s: float = OPEN_TIMEOUT_S, read_timeout_s: float = READ_TIMEOUT_S) -> Camera:
    """Watch a network camera, through OpenCV's FFmpeg (RTSP over TCP where the camera allows it).

    Args:
        url: the camera's address, with user and password if it wants them; they are never shown.
        open_timeout_s: a grab that has to connect gives up after this long.
        read_timeout_s: the stream counts as broken when nothing came for this long.
    """
    called = redacted(url)

    def connect() -> Capture:
        try:
            return Capture(
                url,
                backend=cv2.CAP_FFMPEG,
                called=called,
                parameters={
                    cv2.CAP_PROP_OPEN_TIMEOUT_MSEC: round(open_timeout_s * 1000),
                    cv2.CAP_PROP_READ_TIMEOUT_MSEC: round(read_timeout_s * 1000),
                    cv2.CAP_PROP_N_THREADS: _DECODER_THREADS,
                },
            )
        except SourceError as error:
            raise SourceError(
                f"{called}: no stream; check that the camera answers at this address, its path, user and password"
            ) from error

    return Camera(called, connect)
