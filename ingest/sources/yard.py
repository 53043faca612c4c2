"""`synthetic:yard`: a loading yard at rest, where at known times somebody walks through.

Nothing moves but leaves in the wind and the shadows of clouds, over a chip's noise; intruders cross on foot.
"""

import functools

import cv2
import numpy as np

from ingest.frame import Picture
from ingest.sources.leaves import Bush
from ingest.sources.scene import Purpose, SceneOptions, SensorNoise, chance, drift, smooth_noise
from ingest.sources.walker import draw_walker
from ingest.sources.yard_painting import CONTAINER, paint_yard

_MAX_CROSSING = 80  # frames
_CLOUD_ROOM = 0.5  # how much larger than the picture the sheet of cloud shadows is
_BUSHES = ((0.655, 0.16, 0.345, 0.33), (0.84, 0.0, 0.16, 0.40))  # left, top, width, height: shares of the picture


class YardOptions(SceneOptions):
    """Options of `synthetic:yard`."""

    defect_every: int = 240
    """In each block of so many frames an intruder crosses, for a quarter of it but 80 frames at most; 0: never."""


class Yard:
    """See `ingest.sources.scene.Scene`; textures are painted at the first frame."""

    def __init__(self, options: SceneOptions) -> None:
        self._options = options
        self._height, self._width = options.shape

    def injected(self, seq: int) -> bool:
        """Whether somebody is in the yard."""
        return self._crossing(seq) is not None

    def render(self, seq: int) -> Picture:
        """Yard, leaves, people, light, noise."""
        seed = self._options.seed
        picture = self._ground.copy()
        for bush in self._bushes:
            bush.sway(picture, seq)
        picture[self._before] = self._ground[self._before]
        crossing = self._crossing(seq)
        if crossing is not None:
            self._walk(picture, *crossing)
        gain = 1 + drift(seed, seq, periods=(83.0, 37.0), amplitudes=(0.035, 0.02))
        lit = cv2.multiply(picture, self._clouds_over(seq), scale=gain / 225)
        return self._noise.on(np.asarray(lit, np.uint8), chance(seed, Purpose.NOISE, seq))

    def _crossing(self, seq: int) -> tuple[int, float] | None:
        """The number of the crossing that frame `seq` lies in, and how far it has come, 0 to 1."""
        every = self._options.defect_every
        if every == 0:
            return None
        length = min(_MAX_CROSSING, max(1, every // 4))
        block, place = divmod(seq, every)
        start = int(chance(self._options.seed, Purpose.INJECTION, block).integers(every - length + 1))
        return (block, (place - start + 0.5) / length) if start <= place < start + length else None

    def _walk(self, picture: Picture, crossing: int, progress: float) -> None:
        draw = chance(self._options.seed, Purpose.MOVER, crossing)
        leftwards = draw.random() < 0.5
        people = 1 if draw.random() < 0.65 else 2
        depth = draw.uniform(0.66, 0.93)  # of the feet, as a share of the picture's height
        for person in range(people):
            feet = depth + 0.03 * person
            tall = (0.19 + 0.55 * (feet - 0.55)) * self._height
            across = 0.06 + 0.88 * progress
            across = (1 - across if leftwards else across) * self._width - person * 0.42 * tall
            across = float(np.clip(across, 0.2 * tall, self._width - 0.2 * tall))
            draw_walker(
                picture,
                feet=(across, feet * self._height),
                tall=tall,
                leftwards=leftwards,
                clothes=int(draw.integers(6)),
            )

    def _clouds_over(self, seq: int) -> Picture:
        room_y, room_x = (side - full for side, full in zip(self._clouds.shape, self._options.shape, strict=False))
        phase = chance(self._options.seed, Purpose.LIGHT, 2).uniform(0, 2 * np.pi) + np.array([0, np.pi / 3])
        y = round((0.5 + 0.5 * np.sin(2 * np.pi * seq / 97 + phase[0])) * room_y)
        x = round((0.5 + 0.5 * np.sin(2 * np.pi * seq / 97 + phase[1])) * room_x)
        return self._clouds[y : y + self._height, x : x + self._width]

    @functools.cached_property
    def _ground(self) -> Picture:
        return paint_yard(self._options.shape)

    @functools.cached_property
    def _before(self) -> tuple[slice, slice]:
        """Where the container hides the leaves."""
        left, top, right, bottom = CONTAINER
        rows = slice(round(top * self._height), round(bottom * self._height))
        return rows, slice(round(left * self._width), round(right * self._width))

    @functools.cached_property
    def _bushes(self) -> list[Bush]:
        wind = float(chance(self._options.seed, Purpose.LIGHT, 1).uniform(0, 2 * np.pi))
        return [Bush(*place, shape=self._options.shape, wind=wind, seed=41 + at) for at, place in enumerate(_BUSHES)]

    @functools.cached_property
    def _clouds(self) -> Picture:
        height, width = (round(side * (1 + _CLOUD_ROOM)) for side in self._options.shape)
        shade = 225 + 6 * smooth_noise((height, width), cell=0.45 * self._height, seed=31)
        return np.repeat(np.clip(shade, 190, 255).astype(np.uint8)[..., None], 3, axis=2)

    @functools.cached_property
    def _noise(self) -> SensorNoise:
        return SensorNoise(self._options.shape, sigma=2.5)
