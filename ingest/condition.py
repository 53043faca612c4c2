"""Is what the camera delivers worth judging? A covered lens or a hung camera must not look like a clean product."""

import zlib

import numpy as np
from numpy.typing import NDArray

from ingest.frame import Condition, Picture

_ROWS = 64  # of the picture that are compared: a change taller than 1/64 of the picture is always seen
_GRID = 96  # points per axis at which brightness is measured
_FROZEN_COUNT = 3  # equal pictures at least: two can be chance at a low frame rate
_WHITE = 250.0  # luminance at which a sensor has hardly anything left to tell, with room for compression
_LUMA = np.array([0.114, 0.587, 0.299], np.float32)  # of blue, green, red: ITU-R BT.601


class ConditionWatch:
    """Follows one camera's pictures.

    Args:
        frozen_after_s: the same picture for this long, and at least 3 times, is FROZEN; 0 turns it off. A living
            camera never repeats itself: its sensor noise alone changes every picture.
        dark_below: a 99th percentile of luminance (0 to 255) below this is DARK; 0 turns it off.
        overexposed_above: a larger share of white points (luminance 250 or more) is OVEREXPOSED; 1 turns it off.
    """

    def __init__(self, *, frozen_after_s: float, dark_below: float, overexposed_above: float) -> None:
        self._frozen_after_s = frozen_after_s
        self._dark_below = dark_below
        self._overexposed_above = overexposed_above
        self._print: tuple[tuple[int, ...], int] | None = None
        self._since = 0.0
        self._count = 0

    def observe(self, picture: Picture | None, now: float) -> Condition:
        """Judge the next picture.

        Args:
            picture: `[H, W, 3]` uint8, or None for one that could not be decoded.
            now: seconds of the camera's own time: monotonic, or the position in a recording.

        Returns:
            CORRUPT without a picture; else DARK or OVEREXPOSED, which explain a picture that also stands still; else
            FROZEN or OK.
        """
        if picture is None:
            return Condition.CORRUPT
        frozen = self._stands_still(picture, now)
        if self._dark_below > 0 or self._overexposed_above < 1:
            luminance = _luminance(picture)
            if np.percentile(luminance, 99) < self._dark_below:
                return Condition.DARK
            if np.mean(luminance >= _WHITE) > self._overexposed_above:
                return Condition.OVEREXPOSED
        return Condition.FROZEN if frozen else Condition.OK

    def _stands_still(self, picture: Picture, now: float) -> bool:
        if self._frozen_after_s <= 0:
            return False
        step = max(1, picture.shape[0] // _ROWS)
        rows = np.ascontiguousarray(picture[step // 2 :: step])
        seen = (picture.shape, zlib.crc32(rows.data))
        if seen != self._print:
            self._print, self._since, self._count = seen, now, 0
        self._count += 1
        return self._count >= _FROZEN_COUNT and now - self._since >= self._frozen_after_s


def _luminance(picture: Picture) -> NDArray[np.float32]:
    """Luminance at points of a grid over the picture."""
    height, width = picture.shape[:2]
    return picture[:: max(1, height // _GRID), :: max(1, width // _GRID)] @ _LUMA
