"""Is what the camera delivers worth judging? A covered lens or a hung camera must not look like a clean product."""

import zlib

import numpy as np

from ingest.frame import Condition, Picture

_ROWS = 64  # of the picture that are compared: a change taller than 1/64 of the picture is always seen
_GRID = 96  # points per axis at which brightness is measured
_FROZEN_COUNT = 3  # equal pictures at least: two can be chance at a low frame rate
_LUMA = np.array([0.114, 0.587, 0.299], np.float32)  # of blue, green, red: ITU-R BT.601


class ConditionWatch:
    """Follows one camera's pictures.

    Args:
        frozen_after_s: the same picture for this long, and at least 3 times, is FROZEN; 0 turns it off. A living
            camera never repeats itself: its sensor noise alone changes every picture.
        dark_below: a 99th percentile of luminance (0 to 255) below this is DARK; 0 turns it off.
    """

    def __init__(self, *, frozen_after_s: float, dark_below: float) -> None:
        self._frozen_after_s = frozen_after_s
        self._dark_below = dark_below
        self._print: tuple[tuple[int, ...], int] | None = None
        self._since = 0.0
        self._count = 0

    def observe(self, picture: Picture | None, now: float) -> Condition:
        """Judge the next picture.

        Args:
            picture: `[H, W, 3]` uint8, or None for one that could not be decoded.
            now: monotonic seconds.

        Returns:
            CORRUPT without a picture; else DARK, which explains a picture that also stands still; else FROZEN or OK.
        """
        if picture is None:
            return Condition.CORRUPT
        frozen = self._stands_still(picture, now)
        if self._is_dark(picture):
            return Condition.DARK
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

    def _is_dark(self, picture: Picture) -> bool:
        if self._dark_below <= 0:
            return False
        height, width = picture.shape[:2]
        grid = picture[:: max(1, height // _GRID), :: max(1, width // _GRID)]
        return bool(np.percentile(grid @ _LUMA, 99) < self._dark_below)
