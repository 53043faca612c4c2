"""Bushes of the synthetic yard: leaves that sway in the wind."""

import cv2
import numpy as np
from numpy.typing import NDArray

from ingest.frame import Picture
from ingest.sources.scene import smooth_noise

_BREEZE = ((23.0, 0.6), (9.7, 0.4))  # period in frames, share
_REACH = 2.5  # pixels that the highest twigs move, in a picture 480 high
_CELL = 12  # pixels between points at which the wind is computed


class Bush:
    """One mass of leaves.

    Args:
        left, top, width, height: its place, as shares of the picture's size.
        shape: of the picture, height and width in pixels.
        wind: phase of the wind at frame 0, radians.
        seed: of its leaves.
    """

    def __init__(
        self, left: float, top: float, width: float, height: float, *, shape: tuple[int, int], wind: float, seed: int
    ) -> None:
        top_px, left_px = round(top * shape[0]), round(left * shape[1])
        bottom_px, right_px = (
            min(shape[0], round((top + height) * shape[0])),
            min(shape[1], round((left + width) * shape[1])),
        )
        self._place = slice(top_px, bottom_px), slice(left_px, right_px)
        rows, columns = bottom_px - top_px, right_px - left_px
        scale = shape[0] / 480
        self._leaves = _paint((rows, columns), scale, seed)
        self._y, self._x = np.mgrid[0:rows, 0:columns].astype(np.float32)
        coarse = (max(2, rows // _CELL), max(2, columns // _CELL))
        self._phase = wind + 1.5 * smooth_noise(coarse, cell=3, seed=seed + 500)  # when the gust gets there
        self._reach = np.linspace(1, 0.15, coarse[0], dtype=np.float32)[:, None] * (_REACH * scale)

    def sway(self, picture: Picture, seq: int) -> None:
        """Lay the leaves over `picture`, in place, as the wind has bent them at frame `seq`."""
        rows, columns = self._x.shape
        push = np.zeros_like(self._phase)
        for period, share in _BREEZE:
            push += share * np.sin(2 * np.pi * seq / period + self._phase)
        push = np.asarray(cv2.resize(push * self._reach, (columns, rows)), np.float32)
        moved = cv2.remap(
            self._leaves, self._x + push, self._y + 0.4 * push, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT
        )
        under = picture[self._place]
        through = cv2.cvtColor(cv2.bitwise_not(moved[..., 3]), cv2.COLOR_GRAY2BGR)
        under[:] = cv2.add(cv2.multiply(under, through, scale=1 / 255), cv2.cvtColor(moved, cv2.COLOR_BGRA2BGR))


def _paint(shape: tuple[int, int], scale: float, seed: int) -> NDArray[np.uint8]:
    """Leaves as `[h, w, 4]` uint8 BGRA, colour multiplied by opacity."""
    height, width = shape
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    outline = smooth_noise((1, width), cell=34 * scale, seed=seed)[0] * 9 * scale
    ragged = smooth_noise(shape, cell=5 * scale, seed=seed + 100) * 5 * scale
    crown = y - (18 * scale + outline[None, :]) + ragged
    side = x - 12 * scale + ragged
    foot = height - 5 * scale - y + 0.7 * ragged
    opacity = np.clip(np.minimum(np.minimum(crown, side), foot) / (1.5 * scale), 0, 1)
    clumps = smooth_noise(shape, cell=22 * scale, seed=seed + 200)
    twigs = smooth_noise(shape, cell=6 * scale, seed=seed + 300)
    leaves = smooth_noise(shape, cell=2.2 * scale, seed=seed + 400)
    value = 54 + 13 * clumps + 11 * twigs + 9 * leaves + 34 * (1 - y / height)
    tint = np.stack([0.42 + 0.02 * clumps, np.ones_like(clumps), 0.72 + 0.07 * twigs], axis=2)
    colour = np.clip(value[..., None] * tint, 8, 255) * opacity[..., None]
    return np.concatenate([colour, opacity[..., None] * 255], axis=2).astype(np.uint8)
