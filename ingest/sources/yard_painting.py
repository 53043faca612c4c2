"""The still picture behind the synthetic yard: hall with dock doors, asphalt, container, sky."""

import cv2
import numpy as np
from numpy.typing import NDArray

from ingest.frame import Picture
from ingest.sources.scene import smooth_noise

_WIDTH, _HEIGHT = 1280, 960  # it is painted at this size, then brought to the one asked for
_HORIZON = 430  # where the ground begins

Colour = tuple[float, float, float]


CONTAINER = (0.70, 0.385, 0.92, 0.545)
"""A container before the bushes: left, top, right, bottom as shares of the picture's size."""


def paint_yard(shape: tuple[int, int]) -> Picture:
    """Paint the yard, `[H, W, 3]` uint8 BGR of `shape`."""
    canvas = np.zeros((_HEIGHT, _WIDTH, 3), np.float32)
    _sky(canvas)
    _asphalt(canvas)
    _kerb(canvas)
    _hall(canvas)
    _markings(canvas)
    _container(canvas)
    _lamp_post(canvas)
    grain = smooth_noise((_HEIGHT, _WIDTH), cell=2, seed=51)
    canvas += 1.6 * grain[..., None]
    painted = np.clip(canvas, 0, 255).astype(np.uint8)
    height, width = shape
    shrinking = height < _HEIGHT
    return np.asarray(
        cv2.resize(painted, (width, height), interpolation=cv2.INTER_AREA if shrinking else cv2.INTER_CUBIC), np.uint8
    )


def _fill(canvas: NDArray[np.float32], corners: list[tuple[float, float]], colour: Colour) -> None:
    cv2.fillPoly(canvas, [np.rint(np.array(corners) * 16).astype(np.int32)], colour, cv2.LINE_AA, 4)


def _box(canvas: NDArray[np.float32], corners: tuple[int, int, int, int], colour: Colour) -> None:
    x0, y0, x1, y1 = corners
    canvas[y0:y1, x0:x1] = colour


def _write(canvas: NDArray[np.float32], text: str, at: tuple[int, int], colour: Colour) -> None:
    page = np.clip(canvas, 0, 255).astype(np.uint8)  # OpenCV writes on nothing else
    cv2.putText(page, text, at, cv2.FONT_HERSHEY_DUPLEX, 1.0, colour, 2, cv2.LINE_AA)
    canvas[:] = page


def _sky(canvas: NDArray[np.float32]) -> None:
    down = np.linspace(0, 1, _HORIZON, dtype=np.float32)[:, None, None]
    canvas[:_HORIZON] = np.array([206, 186, 160]) * (1 - down) + np.array([222, 218, 208]) * down
    clouds = smooth_noise((_HORIZON, _WIDTH), cell=130, seed=52)
    canvas[:_HORIZON] += 5 * clouds[..., None]


def _asphalt(canvas: NDArray[np.float32]) -> None:
    height = _HEIGHT - _HORIZON
    down = np.linspace(0, 1, height, dtype=np.float32)[:, None]
    near = smooth_noise((height, _WIDTH), cell=3, seed=53)
    patches = smooth_noise((height, _WIDTH), cell=110, seed=54)
    value = 132 - 26 * down + 4 * near * (0.4 + down) + 5 * patches
    canvas[_HORIZON:] = value[..., None] * np.array([0.99, 1.0, 1.0])
    draw = np.random.default_rng(55)
    for _ in range(9):  # oil
        centre = (int(draw.uniform(60, 1220)), int(draw.uniform(560, 930)))
        stain = canvas.copy()
        cv2.ellipse(stain, centre, (int(draw.uniform(15, 48)), int(draw.uniform(5, 13))), 0, 0, 360, (78, 78, 80), -1)
        canvas[:] = 0.65 * canvas + 0.35 * cv2.GaussianBlur(stain, (0, 0), 4)
    crack = np.cumsum(draw.normal((9, 1.2), (4, 5), (70, 2)), axis=0) + np.array([330, 640])
    cv2.polylines(canvas, [np.rint(crack * 16).astype(np.int32)], False, (84, 84, 86), 2, cv2.LINE_AA, 4)


def _kerb(canvas: NDArray[np.float32]) -> None:
    _box(canvas, (800, _HORIZON, _WIDTH, 478), (52, 66, 62))
    _box(canvas, (800, 472, _WIDTH, 480), (168, 168, 166))
    _box(canvas, (800, 480, _WIDTH, 490), (112, 112, 112))


def _hall(canvas: NDArray[np.float32]) -> None:
    x1, top, bottom = 800, 96, _HORIZON + 14
    x = np.arange(x1, dtype=np.float32)
    ribs = 9 * np.sin(2 * np.pi * x / 20) + 4 * np.sin(2 * np.pi * x / 160)
    down = np.linspace(8, -12, bottom - top, dtype=np.float32)[:, None]
    canvas[top:bottom, :x1] = (166 + ribs[None, :] + down)[..., None] * np.array([1.04, 1.0, 0.95])
    _box(canvas, (0, top - 14, x1 + 8, top + 6), (84, 72, 62))
    _box(canvas, (0, top + 6, x1, top + 10), (118, 112, 104))
    _box(canvas, (0, top + 48, x1, top + 76), (142, 84, 36))
    _box(canvas, (0, bottom - 34, x1, bottom), (98, 98, 98))
    for number, left in enumerate((70, 300, 530)):
        _dock(canvas, left, number + 1, bottom)
    _box(canvas, (728, bottom - 136, 778, bottom), (66, 62, 60))
    _box(canvas, (732, bottom - 132, 774, bottom), (112, 120, 74))
    _box(canvas, (740, bottom - 122, 766, bottom - 84), (150, 146, 128))
    cv2.circle(canvas, (766, bottom - 60), 3, (210, 210, 210), -1, cv2.LINE_AA)
    _fill(canvas, [(0, bottom), (x1, bottom), (x1 + 60, bottom + 22), (0, bottom + 22)], (84, 84, 86))


def _dock(canvas: NDArray[np.float32], left: int, number: int, bottom: int) -> None:
    right, top = left + 170, 212
    _box(canvas, (left - 12, top - 12, right + 12, bottom), (58, 56, 54))
    slats = np.arange(bottom - top, dtype=np.float32)
    shade = 196 - 16 * (np.mod(slats, 17) < 3) - 0.08 * slats + 3 * np.sin(slats / 17 * 2 * np.pi)
    canvas[top:bottom, left:right] = shade[:, None, None] * np.array([0.99, 1.0, 0.99])
    for window in range(3):
        _box(canvas, (left + 22 + window * 46, top + 54, left + 54 + window * 46, top + 74), (92, 84, 74))
    for step in range(-1, 12):  # hazard stripes on the bumpers
        for post in (left - 12, right):
            y = bottom - 130 + step * 12
            _fill(canvas, [(post, y + 12), (post + 12, y), (post + 12, y + 6), (post, y + 18)], (40, 190, 232))
    cv2.circle(canvas, ((left + right) // 2, top - 38), 19, (236, 236, 236), -1, cv2.LINE_AA)
    _write(canvas, str(number), ((left + right) // 2 - 10, top - 28), (70, 48, 30))


def _markings(canvas: NDArray[np.float32]) -> None:
    paint: Colour = (92, 196, 214)
    layer = canvas.copy()
    for x in (40, 270, 500, 730, 960):  # bays before the docks, towards a vanishing point up in the middle
        foot = 640 + (x - 640) * 1.55
        _fill(layer, [(x, 480), (x + 7, 480), (foot + 15, 660), (foot, 660)], paint)
    _fill(layer, [(0, 742), (_WIDTH, 742), (_WIDTH, 756), (0, 756)], (206, 208, 208))
    for x in range(-40, _WIDTH, 120):
        _fill(layer, [(x, 838), (x + 66, 838), (x + 62, 854), (x - 6, 854)], (206, 208, 208))
    worn = np.clip(0.72 + 0.16 * smooth_noise((_HEIGHT, _WIDTH), cell=6, seed=56), 0, 1)[..., None]
    canvas[:] = canvas * (1 - worn) + layer * worn


def _container(canvas: NDArray[np.float32]) -> None:
    left, upper, right, lower = CONTAINER
    x0, x1 = round(left * _WIDTH), round(right * _WIDTH)
    top, bottom = round(upper * _HEIGHT), round(lower * _HEIGHT)
    _fill(
        canvas, [(x0 + 20, bottom - 6), (x1 + 90, bottom - 6), (x1 + 60, bottom + 24), (x0, bottom + 10)], (74, 74, 76)
    )
    x = np.arange(x0, x1, dtype=np.float32)
    ribs = 1 + 0.14 * np.sign(np.sin(2 * np.pi * (x - x0) / 18))
    canvas[top:bottom, x0:x1] = ribs[None, :, None] * np.array([128, 78, 34], np.float32)
    for y in (top, bottom - 9):
        _box(canvas, (x0, y, x1, y + 9), (104, 62, 26))
    for edge in (x0, x1 - 10):
        _box(canvas, (edge, top, edge + 10, bottom), (112, 68, 28))
    _write(canvas, "LW 2041", (x0 + 76, top + 66), (226, 226, 222))


def _lamp_post(canvas: NDArray[np.float32]) -> None:
    _fill(canvas, [(822, 516), (834, 516), (900, 528), (880, 532)], (84, 84, 86))
    _box(canvas, (822, 60, 832, 520), (88, 88, 90))
    _box(canvas, (824, 60, 827, 520), (142, 142, 144))
    _fill(canvas, [(826, 62), (886, 48), (890, 58), (828, 74)], (76, 76, 78))
    _fill(canvas, [(866, 52), (908, 44), (910, 54), (868, 64)], (226, 232, 232))
