"""The part that travels on the synthetic belt: a turned steel flange with a brass bushing."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ingest.frame import Picture
from ingest.sources.scene import smooth_noise

_FINE = 2  # painted this much larger, then averaged down
_LAMP = np.deg2rad(225)  # where the light comes from: up on the left
_FILL = 0.42  # the part's radius, as a share of its canvas
_HOLES = 6
BORE = 0.235
"""Radius of the hole in the middle, as a share of the part's."""


@dataclass(frozen=True)
class Part:
    """A part on a square canvas, not yet on the belt.

    Attributes:
        surface: `[S, S, 3]` uint8 BGR; goes on beyond the part's edge, so that turning it frays nothing.
        cover: `[S, S]` uint8, 255 where the part is.
        shadow: `[S, S]` uint8, how dark the belt below is.
        radius: of the part, in pixels.
    """

    surface: Picture
    cover: NDArray[np.uint8]
    shadow: NDArray[np.uint8]
    radius: float

    def layer(self) -> NDArray[np.uint8]:
        """Part and shadow as `[S, S, 4]` uint8, colour multiplied by opacity (Porter and Duff, 1984, `over`)."""
        colour = cv2.multiply(self.surface, cv2.cvtColor(self.cover, cv2.COLOR_GRAY2BGR), scale=1 / 255)
        below = cv2.multiply(self.shadow, cv2.bitwise_not(self.cover), scale=1 / 255)
        opacity = cv2.add(self.cover, below)
        return np.asarray(cv2.merge([*cv2.split(colour), opacity]), np.uint8)


def turned_flange(side: int) -> Part:
    """Paint the good part on a canvas `side` pixels wide."""
    size = side * _FINE
    radius = _FILL * size
    y, x = (np.mgrid[0:size, 0:size].astype(np.float32) - size / 2 + 0.5) / radius
    r, angle = np.hypot(x, y), np.arctan2(y, x)
    towards = np.cos(angle - _LAMP)  # 1 on the side that faces the lamp
    value = _metal(r, angle, radius)
    tint = np.ones((size, size, 3), np.float32) * np.array([1.0, 0.985, 0.955], np.float32)
    brass = ((r > 0.27) & (r < 0.44))[..., None]
    tint = np.where(brass, np.array([0.50, 0.80, 1.0], np.float32), tint)
    for edge, width, slope in (
        (0.965, 0.035, 1),
        (0.66, 0.022, -1),
        (0.60, 0.03, 1),
        (0.45, 0.018, -1),
        (0.25, 0.03, -1),
    ):
        value += slope * 78 * towards * np.exp(-(((r - edge) / width) ** 2))
    value -= 70 * np.exp(-(((r - 0.63) / 0.012) ** 2))
    value = np.where(r < BORE, 22 + 16 * np.clip(-towards, 0, 1) * r / BORE, value)
    for hole in range(_HOLES):
        at = 2 * np.pi * hole / _HOLES
        dx, dy = x - 0.80 * np.cos(at), y - 0.80 * np.sin(at)
        away, facing = np.hypot(dx, dy), np.cos(np.arctan2(dy, dx) - _LAMP)
        value += np.where(away < 0.115, -62 * facing, 0) * np.exp(-(((away - 0.095) / 0.02) ** 2))
        value = np.where(away < 0.078, 20 + 14 * np.clip(-facing, 0, 1), value)
    value = _engrave(value, x, y)
    surface = np.clip(value[..., None] * tint, 0, 255).astype(np.uint8)
    cover = np.clip((1.0 - r) * radius + 0.5, 0, 1) * 255
    fallen = np.clip(1.5 - np.hypot(x - 0.055, y - 0.075) * 1.45, 0, 1)
    shadow = cv2.GaussianBlur((np.minimum(fallen * 4, 1) * 165).astype(np.uint8), (0, 0), 0.045 * radius)
    return Part(
        surface=_shrink(surface, side),
        cover=_shrink(cover.astype(np.uint8), side),
        shadow=_shrink(np.asarray(shadow, np.uint8), side),
        radius=radius / _FINE,
    )


def _metal(r: NDArray[np.float32], angle: NDArray[np.float32], radius: float) -> NDArray[np.float32]:
    """Turned steel: grooves along circles, so that light is thrown back in two opposite fans."""
    fan = np.abs(np.cos(angle - _LAMP)) ** 6 * 62 + np.abs(np.cos(angle - _LAMP - 1.2)) ** 14 * 26
    profile = smooth_noise((1, 1024), cell=2.0, seed=21)[0]
    grooves = np.interp(r.ravel(), np.linspace(0, 1.5, 1024), profile).reshape(r.shape)
    step = np.where(r < 0.62, 18, 0)
    grain = smooth_noise(r.shape, cell=max(1.0, radius / 90), seed=22)
    value = 128 + step + fan * (0.85 + 0.15 * grooves) + 5 * grooves + 1.5 * grain
    return np.asarray(value, np.float32)


def _engrave(value: NDArray[np.float32], x: NDArray[np.float32], y: NDArray[np.float32]) -> NDArray[np.float32]:
    """A laser-marked code, a square of dark modules, between two holes."""
    modules = np.random.default_rng(23).random((10, 10)) < 0.5
    modules[:, 0] = modules[-1, :] = True
    at = np.deg2rad(90)
    across = (-(x - 0.80 * np.cos(at)) * np.sin(at) + (y - 0.80 * np.sin(at)) * np.cos(at)) / 0.2 + 0.5
    along = ((x - 0.80 * np.cos(at)) * np.cos(at) + (y - 0.80 * np.sin(at)) * np.sin(at)) / 0.2 + 0.5
    inside = (across >= 0) & (across < 1) & (along >= 0) & (along < 1)
    marked = np.zeros(value.shape, bool)
    marked[inside] = modules[(along[inside] * 10).astype(int), (across[inside] * 10).astype(int)]
    return np.where(marked, value * 0.45, value).astype(np.float32)


def _shrink(layer: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    return np.asarray(cv2.resize(layer, (side, side), interpolation=cv2.INTER_AREA), np.uint8)
