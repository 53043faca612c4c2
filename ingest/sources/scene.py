"""What the synthetic scenes share: options, chance that is a pure function of the frame's number, light and noise."""

from typing import Annotated, Literal, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from ingest.frame import Picture
from ingest.sources.urls import SourceOptions

_NOISE_MARGIN = 64


class SceneOptions(SourceOptions):
    """Options of `synthetic:belt` and `synthetic:yard`."""

    fps: Annotated[float, Field(gt=0, le=1000)] | Literal["max"] = 10.0
    """Frames per second, like a camera (live); `max`: as fast as they are taken (not live)."""
    rate: Literal["own", "max"] = "own"
    """`max`: the same as `fps=max`."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Another seed: other poses, light, noise and defects of the same scene."""
    frames: Annotated[int, Field(ge=0)] = 0
    """End after this many; 0 goes on for ever."""
    size: Annotated[str, Field(pattern=r"^[1-9]\d{1,3}x[1-9]\d{1,3}$")] = "640x480"
    """Width x height in pixels, 64 to 4096 each."""
    defect_every: Annotated[int, Field(ge=0)] = 25
    """Of each so many frames one part is defective (belt), or a quarter of them show an intruder (yard); 0: none."""

    @field_validator("size")
    @classmethod
    def _check_size(cls, size: str) -> str:
        if not all(64 <= int(side) <= 4096 for side in size.split("x")):
            raise ValueError("each side must lie between 64 and 4096 pixels")
        return size

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        width, height = self.size.split("x")
        return int(height), int(width)

    @property
    def live(self) -> bool:
        """Whether the scene keeps its own time."""
        return self.rate == "own" and self.fps != "max"


class Scene(Protocol):
    """A world whose every frame is a pure function of its options and the frame's number."""

    def render(self, seq: int) -> Picture:
        """Paint frame `seq`: `[H, W, 3]` uint8 BGR."""
        ...

    def injected(self, seq: int) -> bool:
        """Tell whether frame `seq` shows a defect or an intruder: the ground truth."""
        ...


class Purpose:
    """Names of independent streams of chance: what one draws never shifts what another draws."""

    INJECTION, DEFECT, POSE, LIGHT, NOISE, MOVER = range(6)


def chance(seed: int, purpose: int, number: int) -> np.random.Generator:
    """Draw from a stream that depends on these three numbers alone."""
    return np.random.default_rng((seed, purpose, number))


def drift(seed: int, seq: int, *, periods: tuple[float, ...], amplitudes: tuple[float, ...]) -> float:
    """Sum slow sine waves over the frame number; their phases come from the seed.

    Scenes keep the periods below 100 frames, so that a fit of some 150 has seen all the light there is.
    """
    phases = chance(seed, Purpose.LIGHT, 2**32).uniform(0, 2 * np.pi, len(periods))
    angles = 2 * np.pi * seq / np.array(periods) + phases
    return float(np.dot(amplitudes, np.sin(angles)))


class SensorNoise:
    """Noise of a camera's chip: a fixed sheet, laid at a place that chance picks for every frame.

    Drawing 0.9 million normal numbers a frame would cost ten times the painting.
    """

    def __init__(self, shape: tuple[int, int], *, sigma: float) -> None:
        height, width = shape
        generator = np.random.default_rng(1)
        size = (height + _NOISE_MARGIN, width + _NOISE_MARGIN)
        grey = generator.normal(0, sigma, (*size, 1))
        colour = generator.normal(0, sigma / 2, (*size, 3))
        self._sheet: NDArray[np.int16] = np.rint(grey + colour).astype(np.int16)
        self._shape = shape

    def on(self, picture: Picture, draw: np.random.Generator) -> Picture:
        """Add it, saturating."""
        y, x = draw.integers(0, _NOISE_MARGIN, 2)
        cut = self._sheet[y : y + self._shape[0], x : x + self._shape[1]]
        return np.asarray(cv2.add(picture, cut, dtype=cv2.CV_8U), np.uint8)


def smooth_noise(shape: tuple[int, int], *, cell: float, seed: int) -> NDArray[np.float32]:
    """Make a texture `[H, W]` of mean 0 and deviation 1 whose blotches are `cell` pixels wide."""
    generator = np.random.default_rng(seed)
    height, width = shape
    coarse = generator.normal(0, 1, (max(2, round(height / cell)) + 1, max(2, round(width / cell)) + 1))
    fine = cv2.resize(coarse.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    return np.asarray((fine - fine.mean()) / fine.std(), np.float32)
