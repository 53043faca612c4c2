"""What can be wrong with a part on the synthetic belt: scratch, dent, contamination, missing piece."""

from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from ingest.frame import Picture
from ingest.sources.part import BORE, Part

_SHIFT = 4  # OpenCV draws at 1/16 of a pixel
_CAST = 0.065  # how far the shadow lies from its part, in radii


def spoil(part: Part, draw: np.random.Generator) -> Part:
    """Give a copy of `part` one defect; kind, place and size are drawn."""
    kinds: tuple[Callable[[Part, np.random.Generator], Part], ...] = (scratch, dent, contamination, missing_piece)
    return kinds[int(draw.integers(len(kinds)))](part, draw)


def scratch(part: Part, draw: np.random.Generator) -> Part:
    """A gouge across the face: dark furrows with bright burrs."""
    surface = part.surface.copy()
    heading = draw.uniform(0, np.pi)
    t = np.linspace(-1, 1, 24)
    bend, aside = draw.uniform(-0.25, 0.25), draw.uniform(-0.3, 0.3)
    line = np.stack([t * draw.uniform(0.75, 0.95), aside + bend * (t**2 - 0.3) + 0.01 * np.sin(9 * t)], axis=1)
    unit = part.radius / 180
    for offset, width in ((0.0, 7.0), (0.07, 4.5), (-0.055, 3.0), (0.11, 2.5)):
        furrow = line[: int(draw.integers(14, 25))] + np.array([0, offset])
        burr = _on_canvas(part, _turned(furrow + np.array([0, 0.018]), heading))
        cv2.polylines(surface, [burr], False, (236, 236, 232), max(1, round(width * 0.4 * unit)), cv2.LINE_AA, _SHIFT)
        dark = _on_canvas(part, _turned(furrow, heading))
        cv2.polylines(surface, [dark], False, (34, 32, 30), max(1, round(width * unit)), cv2.LINE_AA, _SHIFT)
    return replace(part, surface=_with_bore(surface, part))


def dent(part: Part, draw: np.random.Generator) -> Part:
    """A hollow: its far wall is lit, its near wall lies in the dark."""
    surface = part.surface.copy()
    centre = _turned(np.array([[draw.uniform(0.50, 0.70), 0.0]]), draw.uniform(0, 2 * np.pi))[0]
    long, short, tilt = draw.uniform(0.27, 0.33), draw.uniform(0.22, 0.26), draw.uniform(0, np.pi)
    for depth in np.linspace(0, 1, 12):
        rim = _ellipse(centre - 0.05 * depth * np.array([1, 1]), (1 - 0.8 * depth) * np.array([long, short]), tilt)
        shade = 205 - 185 * min(1.0, depth * 1.7)
        cv2.fillPoly(surface, [_on_canvas(part, rim)], (shade, shade, shade * 0.98), cv2.LINE_AA, _SHIFT)
    return replace(part, surface=surface)


def contamination(part: Part, draw: np.random.Generator) -> Part:
    """Rust, oil or coolant: an irregular stain with splashes, through which some of the metal shines."""
    colour = ((22, 52, 118), (24, 26, 30), (58, 120, 40))[int(draw.integers(3))]
    stained = part.surface.copy()
    centre = _turned(np.array([[draw.uniform(0.3, 0.65), 0.0]]), draw.uniform(0, 2 * np.pi))[0]
    angle = np.linspace(0, 2 * np.pi, 72, endpoint=False)
    for splash in range(7):
        order = np.arange(2, 7)[:, None]
        heights, phases = draw.uniform(0, 0.22, (5, 1)) / order, draw.uniform(0, 2 * np.pi, (5, 1))
        waves = (heights * np.sin(order * angle + phases)).sum(axis=0)
        size = draw.uniform(0.25, 0.31) if splash == 0 else draw.uniform(0.02, 0.06)
        at = centre if splash == 0 else centre + draw.normal(0, 0.26, 2)
        ring = at + size * (1 + waves)[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
        cv2.fillPoly(stained, [_on_canvas(part, ring)], colour, cv2.LINE_AA, _SHIFT)
    blended = np.asarray(cv2.addWeighted(stained, 0.82, part.surface, 0.18, 0), np.uint8)
    return replace(part, surface=_with_bore(blended, part))


def missing_piece(part: Part, draw: np.random.Generator) -> Part:
    """A chunk broken out of the rim; the fracture is bright and jagged."""
    surface, cover, shadow = part.surface.copy(), part.cover.copy(), part.shadow.copy()
    centre = _turned(np.array([[draw.uniform(0.98, 1.08), 0.0]]), draw.uniform(0, 2 * np.pi))[0]
    angle = np.linspace(0, 2 * np.pi, 26, endpoint=False)
    reach = draw.uniform(0.36, 0.46) * (1 + draw.normal(0, 0.07, angle.size))
    bite = centre + reach[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    edge = _on_canvas(part, bite)
    wide = max(1, round(part.radius / 15))
    cv2.polylines(surface, [edge], True, (96, 94, 90), wide, cv2.LINE_AA, _SHIFT)
    cv2.polylines(surface, [edge], True, (232, 230, 226), max(1, wide // 2), cv2.LINE_AA, _SHIFT)
    cv2.fillPoly(cover, [edge], 0, cv2.LINE_AA, _SHIFT)
    cv2.fillPoly(shadow, [_on_canvas(part, bite + _CAST)], 0, cv2.LINE_AA, _SHIFT)
    return replace(part, surface=surface, cover=cover, shadow=shadow)


def _with_bore(surface: Picture, part: Part) -> Picture:
    """Nothing can lie on the hole in the middle: put it back."""
    bore = np.zeros(part.cover.shape, np.uint8)
    centre = (part.cover.shape[1] - 1) / 2
    cv2.circle(bore, (round(centre), round(centre)), round(BORE * part.radius), 255, -1)
    cv2.copyTo(part.surface, bore, surface)
    return surface


def _turned(points: NDArray[np.float64], angle: float) -> NDArray[np.float64]:
    c, s = np.cos(angle), np.sin(angle)
    return np.asarray(points @ np.array([[c, s], [-s, c]]), np.float64)


def _ellipse(centre: NDArray[np.float64], axes: NDArray[np.float64], tilt: float) -> NDArray[np.float64]:
    angle = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    return centre + _turned(np.stack([np.cos(angle), np.sin(angle)], axis=1) * axes, tilt)


def _on_canvas(part: Part, points: NDArray[np.float64]) -> NDArray[np.int32]:
    """From radii around the part's centre to OpenCV's fixed-point pixels."""
    middle = (part.cover.shape[0] - 1) / 2
    return np.asarray(np.rint((middle + points * part.radius) * 2**_SHIFT), np.int32)
