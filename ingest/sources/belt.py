"""`synthetic:belt`: turned flanges under a camera that is triggered once a part.

Each frame shows one part, centred to a few pixels and degrees, under a lamp that drifts by a tenth. Defective parts
carry one of the four defects in `ingest/sources/defects.py`.
"""

import functools

import cv2
import numpy as np
from numpy.typing import NDArray

from ingest.frame import Picture
from ingest.sources.defects import spoil
from ingest.sources.part import Part, turned_flange
from ingest.sources.scene import Purpose, SceneOptions, SensorNoise, chance, drift, smooth_noise

_RAIL = 0.085  # height of the rails above and below, as a share of the picture's
_PITCH = 173  # pixels of belt between two parts, so that each lies on another piece of it


class Belt:
    """See `ingest.sources.scene.Scene`; textures are painted at the first frame."""

    def __init__(self, options: SceneOptions) -> None:
        self._options = options
        self._height, self._width = options.shape

    def injected(self, seq: int) -> bool:
        """One part in each block of `defect_every`, where chance puts it."""
        every, seed = self._options.defect_every, self._options.seed
        if every == 0:
            return False
        block, place = divmod(seq, every)
        return bool(place == chance(seed, Purpose.INJECTION, block).integers(every))

    def render(self, seq: int) -> Picture:
        """Belt, part, light, noise: in the order light meets them."""
        seed = self._options.seed
        offset = seq * _PITCH % self._width
        picture = self._rubber[:, offset : offset + self._width].copy()
        rail = self._rails.shape[0]
        picture[:rail] = self._rails
        picture[-rail:] = self._rails[::-1]
        part = self._part
        if self.injected(seq):
            part = spoil(part, chance(seed, Purpose.DEFECT, seq))
        self._lay(picture, part.layer(), chance(seed, Purpose.POSE, seq))
        gain = 1 + drift(seed, seq, periods=(89.0, 31.0), amplitudes=(0.06, 0.025))
        gain += chance(seed, Purpose.LIGHT, seq).normal(0, 0.005)
        lit = cv2.multiply(picture, self._lamp, scale=gain / 255)
        return self._noise.on(np.asarray(lit, np.uint8), chance(seed, Purpose.NOISE, seq))

    def _lay(self, picture: Picture, layer: NDArray[np.uint8], draw: np.random.Generator) -> None:
        side = layer.shape[0]
        top, left = (self._height - side) // 2, (self._width - side) // 2
        turn = cv2.getRotationMatrix2D((side / 2, side / 2), draw.uniform(-2.5, 2.5), 1.0)
        aside = draw.uniform(-0.007, 0.007, 2) * self._height
        turn = turn + np.array([[0, 0, aside[0]], [0, 0, aside[1]]])
        moved = cv2.warpAffine(layer, turn, (side, side))
        under = picture[top : top + side, left : left + side]
        through = cv2.cvtColor(cv2.bitwise_not(moved[..., 3]), cv2.COLOR_GRAY2BGR)
        seen = cv2.multiply(under, through, scale=1 / 255)
        under[:] = cv2.add(seen, cv2.cvtColor(moved, cv2.COLOR_BGRA2BGR))

    @functools.cached_property
    def _part(self) -> Part:
        return turned_flange(int(min(self._height, self._width) * 0.76))

    @functools.cached_property
    def _noise(self) -> SensorNoise:
        return SensorNoise(self._options.shape, sigma=2.2)

    @functools.cached_property
    def _lamp(self) -> Picture:
        """Brightness over the picture: a lamp up on the left, and the lens's fall-off to the corners."""
        y, x = np.mgrid[0 : self._height, 0 : self._width].astype(np.float32)
        across, down = x / self._width - 0.42, y / self._height - 0.40
        light = 1.0 - 0.62 * (across**2 + down**2)
        tint = np.array([0.97, 1.0, 1.0], np.float32)
        return np.asarray(np.clip(light[..., None] * tint * 255, 0, 255), np.uint8)

    @functools.cached_property
    def _rubber(self) -> Picture:
        """Two picture widths of belt that repeat after one, so that any piece can be cut out."""
        height, width = self._options.shape
        scale = height / 480
        y, x = np.mgrid[0:height, 0:width].astype(np.float32)
        # Woven pattern: whole periods per width, so that the ends meet.
        waves = max(8, round(width / (9 * scale)))
        weave = np.sin(2 * np.pi * waves * x / width) * np.sin(2 * np.pi * y / (9 * scale))
        grain = smooth_noise((height, width), cell=1.6 * scale, seed=11)
        wear = smooth_noise((height, width), cell=70 * scale, seed=12)
        ends = np.minimum(x, width - x) / (0.1 * width)
        wear *= np.clip(ends, 0, 1)
        value = 62 + 3.5 * weave + 2.5 * grain + 3.0 * wear
        belt = value[..., None] * np.array([1.02, 1.0, 0.86], np.float32)
        belt = np.clip(belt, 0, 255)
        return np.concatenate([belt, belt], axis=1).astype(np.uint8)

    @functools.cached_property
    def _rails(self) -> Picture:
        """The upper rail, `[h, W, 3]`: an aluminium profile with bolts and a yellow edge; the lower is its mirror."""
        height, width = max(6, int(self._height * _RAIL)), self._width
        down = np.linspace(0, 1, height, dtype=np.float32)[:, None]
        value = 128 + 50 * np.exp(-(((down - 0.3) / 0.13) ** 2)) - 55 * down**4
        value = value + 3 * smooth_noise((height, width), cell=1.5, seed=13)
        metal = value[..., None] * np.array([1.04, 1.0, 0.97], np.float32)
        rail = np.asarray(np.clip(metal, 0, 255), np.uint8)
        rail[int(height * 0.62) : int(height * 0.80)] = (38, 176, 226)
        rail[int(height * 0.90) :] = 24
        radius = max(1, round(height * 0.12))
        for x in np.linspace(width * 0.08, width * 0.92, 6).astype(int):
            centre = (int(x), int(height * 0.32))
            cv2.circle(rail, centre, radius + 1, (70, 70, 72), -1, cv2.LINE_AA)
            cv2.circle(rail, centre, radius, (188, 190, 190), -1, cv2.LINE_AA)
            cv2.circle(rail, centre, max(1, radius // 2), (84, 84, 86), -1, cv2.LINE_AA)
        return rail
