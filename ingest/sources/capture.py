"""OpenCV's `VideoCapture` with its exceptions mapped and its noise turned off."""

import time
from collections import deque
from collections.abc import Mapping

import cv2
import numpy as np

from ingest.errors import SourceError
from ingest.frame import Picture
from ingest.pictures import MAX_PIXELS
from ingest.quiet import silence

silence()

_PATIENCE = 100  # failed grabs in a row before a stream counts as ended; at a real end they take microseconds
_PATIENCE_S = 1.0  # a time-out is no damaged packet


class Capture:
    """One open file, stream or device.

    Args:
        target: an address, a path, or a device number.
        backend: `cv2.CAP_FFMPEG` and the like.
        parameters: `cv2.CAP_PROP_…` to value, in force from the first packet on.
        called: what errors call it; holds no password.

    Raises:
        SourceError: it cannot be opened, or its pictures are larger than `MAX_PIXELS`.
    """

    def __init__(
        self, target: str | int, *, backend: int, called: str, parameters: Mapping[int, int] | None = None
    ) -> None:
        flat = [number for pair in (parameters or {}).items() for number in pair]
        try:
            self._device = cv2.VideoCapture(target, backend, flat)
        except cv2.error as error:
            raise SourceError(f"{called}: cannot be opened") from error
        if not self._device.isOpened():
            self._device.release()
            raise SourceError(f"{called}: cannot be opened")
        width, height = int(self.number(cv2.CAP_PROP_FRAME_WIDTH)), int(self.number(cv2.CAP_PROP_FRAME_HEIGHT))
        if width * height > MAX_PIXELS:
            self._device.release()
            raise SourceError(
                f"{called}: {width}x{height} is {width * height / 1e6:.1f} megapixels, the limit is "
                f"{MAX_PIXELS / 1e6:.0f}: let the camera send less"
            )
        self._ready: deque[Picture | None] = deque()

    def read(self) -> tuple[bool, Picture | None]:
        """Wait for the next picture.

        A damaged packet fails one grab, and the next one succeeds: only many failures in a row, or one that took
        long, are the end. So a failure is told afterwards, as a picture that could not be decoded.

        Returns:
            Whether there was one, and the picture: None when it came but could not be decoded.
        """
        if not self._ready:
            started = time.monotonic()
            for failures in range(_PATIENCE):
                if self._grab():
                    self._ready.extend([*[None] * failures, self._retrieve()])
                    break
                if time.monotonic() - started > _PATIENCE_S:
                    break
        return (True, self._ready.popleft()) if self._ready else (False, None)

    def _grab(self) -> bool:
        try:
            return bool(self._device.grab())
        except cv2.error:
            return False

    def _retrieve(self) -> Picture | None:
        try:
            decoded, picture = self._device.retrieve()
        except cv2.error:
            return None
        if not decoded or picture is None or picture.dtype != np.uint8 or picture.shape[2:] != (3,):
            return None
        return np.asarray(picture, np.uint8)

    def number(self, prop: int) -> float:
        """A property as OpenCV tells it; 0.0 when it does not know."""
        value = float(self._device.get(prop))
        return value if np.isfinite(value) else 0.0

    def ask(self, prop: int, value: float) -> bool:
        """Ask the device for a setting; False when it will not."""
        return bool(self._device.set(prop, value))

    def close(self) -> None:
        """Release it."""
        self._device.release()
