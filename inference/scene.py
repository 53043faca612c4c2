"""What a fixed camera sees when all is well, and in which way it no longer does.

Everything is learned from the good pictures that calibrate the model: a reference (their median), which tiles and cells
of it are always alike, and how far good pictures stray in each measure. A measure in which they stray widely, as on a
belt whose parts fill the picture or in a folder of single parts, is no evidence, and its check stays off. No limit is
taken from a defect. What each condition means to an operator is in docs/conditions.md.
"""

import base64
import math
from typing import Annotated, Self

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from inference.scene_measures import CELLS, SIDE, Measures, Reference, agree
from ingest.errors import ImageError
from ingest.frame import Condition
from ingest.pictures import check_size
from ingest.preprocess import RGB

MOVED_AT_LEAST = 0.2
"""Pixels at `SIDE`: a smaller motion is never MOVED, and half as much again as good pictures show is allowed."""
LIGHT_MARGIN = 0.125
"""Logarithm of brightness beyond what good pictures show, up or down: an eighth, as automatic exposure may do."""
BLURRED_BELOW = 0.75
"""Of the least sharpness good pictures show."""
OCCLUDED_ABOVE = 1 / 3
"""Share of the picture in which neither the reference's texture nor its brightness is found; smaller is an object."""

_PICTURES = (8, 128)  # fewest that teach a scene; most that are kept, a fair sample of all
_USUAL = 0.95  # share of good pictures that must show a tile or cell as the reference does
_STILL = 1.0  # pixels a tile may stray for it to be asked where the camera looks
_CLEAR = 0.75  # of a tile's usual peak: less, and something stands in it
_MOST = 2 / 3  # share of the tiles that must agree on the camera
_FEWEST_TILES = 6
_LEAST_SIDE = 64  # pixels: cells and tiles of a narrower picture hold too little
_STEADY = 0.2  # logarithm of brightness a cell may stray
_ALIKE, _LOST = 0.6, 0.3  # correlation of a cell's texture: of one to be trusted, and of one that is gone
_FEWEST_CELLS = 32  # of 256, for any share or median of them
_SHARPEST = 0.75  # quantile: focus is measured in the cells with most detail, where neither noise nor codecs reach
_FEWEST_SHARP = 5
_CHANGED = 0.25  # logarithm of brightness
_MOSTLY_LOST = 0.5  # share of lost cells above which, with no tile in its place, the camera looks elsewhere
_OWN_TEXTURE = 0.3  # of the reference's energy
_BUSY = 0.25  # share of cells with texture, 0.5 in the reference
_BLURRED_PLACE = 1.0  # pixels by which a blurred picture may seem moved
_ALL_LOST = 0.9  # so much lost texture is a cover, even one as bright as the scene
_WIDE = 0.3  # a good range of light, logarithm, or of sharpness, share, above which it is no evidence

Numbers = tuple[int, ...]


class Scene(BaseModel):
    """Reference of one camera, learned from good pictures; limits are None where a check is off."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    picture: str
    """The median of good pictures, grey, as PNG in base 64."""
    pictures: Annotated[int, Field(ge=1)]
    """How many it was learned from."""
    tiles: Numbers
    """Tiles that always show the scene in its place."""
    peaks: tuple[float, ...]
    """Usual height of the correlation in each of them."""
    steady: Numbers
    """Cells whose brightness hardly strays."""
    textured: Numbers
    """Cells whose texture is always found again."""
    moved_above: float | None
    """Pixels at `SIDE`."""
    light: tuple[float, float] | None
    """Least and greatest logarithm of brightness over the reference."""
    blurred_below: float | None
    """Share of the reference's sharpness."""
    occluded_above: float | None
    """Share of the picture."""


class SceneBuilder:
    """Learns a scene from a stream of good pictures; memory does not grow with their number (some 8 MB)."""

    def __init__(self) -> None:
        self._kept: list[NDArray[np.uint8]] = []
        self._seen = 0
        self._draw = np.random.default_rng(0)

    def add(self, pictures: NDArray[np.uint8]) -> Self:
        """Take in good pictures.

        Args:
            pictures: `[B, h, w, 3]` uint8 RGB, prepared like the model's inputs, all of one size.
        """
        for picture in pictures:
            self._seen += 1
            if len(self._kept) < _PICTURES[1]:
                self._kept.append(_grey(picture, _working_size(picture)))
                continue
            # Reservoir sampling (Vitter 1985, algorithm R): each picture is kept with the same chance.
            place = int(self._draw.integers(self._seen))
            if place < len(self._kept):
                self._kept[place] = _grey(picture, _working_size(picture))
        return self

    def scene(self) -> Scene | None:
        """What was learned; None: too few pictures, or the camera does not look at a fixed scene."""
        if len(self._kept) < _PICTURES[0] or min(self._kept[0].shape) < _LEAST_SIDE:
            return None
        picture = np.median(np.stack(self._kept), axis=0).astype(np.uint8)
        reference = Reference(picture)
        good = [reference.measure(kept) for kept in self._kept]
        tiles = _usually(np.abs([m.shifts for m in good]) <= _STILL)
        steady = _usually(np.abs([m.levels - np.median(m.levels) for m in good]) <= _STEADY) & reference.inside
        textured = _usually(np.array([m.alike for m in good]) >= _ALIKE) & reference.inside
        if tiles.sum() < _FEWEST_TILES and textured.sum() < _FEWEST_CELLS:
            return None
        scene = Scene(
            picture=_encode(picture),
            pictures=self._seen,
            tiles=_numbers(tiles),
            peaks=tuple(float(p) for p in np.median([m.peaks for m in good], axis=0)[tiles]),
            steady=_numbers(steady),
            textured=_numbers(textured),
            moved_above=None,
            light=None,
            blurred_below=None,
            occluded_above=None,
        )
        watch = SceneWatch(scene)
        return scene.model_copy(
            update={
                "moved_above": _limit_of_motion([watch.moved(m) for m in good]),
                "light": _range_of_light([watch.light(m) for m in good]),
                "blurred_below": _limit_of_sharpness([watch.sharpness(m) for m in good]),
                "occluded_above": _limit_of_cover([watch.covered(m) for m in good]),
            }
        )


class SceneWatch:
    """Compares pictures with a scene. It keeps nothing between pictures, so several threads may use it."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        picture = _decode(scene.picture)
        self._size = (picture.shape[1], picture.shape[0])
        self._reference = Reference(picture)
        self._tiles = np.array(scene.tiles, np.intp)
        self._peaks = np.array(scene.peaks, np.float32)
        self._steady, self._textured = (_cells(numbers) for numbers in (scene.steady, scene.textured))
        detail = self._reference.detail
        least = np.quantile(detail[self._textured], _SHARPEST) if self._textured.any() else 0.0
        self._sharp = self._textured & (detail >= least)

    def look(self, picture: RGB) -> Condition:
        """OK, MOVED, LIGHT, BLURRED or OCCLUDED.

        The first that holds is said: a camera that was moved has also lost its texture, one that is covered also
        its light, and in another light sharpness is not comparable.

        Args:
            picture: `[h, w, 3]` uint8 RGB, prepared like those the scene was learned from.
        """
        scene, seen = self._scene, self._reference.measure(_grey(picture, self._size))
        moved, light, covered, sharpness = self.moved(seen), self.light(seen), self.covered(seen), self.sharpness(seen)
        blurred = _below(sharpness, scene.blurred_below)
        # A blurred picture cannot be located as well.
        if _above(moved, scene.moved_above) and not (blurred and _below(moved, _BLURRED_PLACE)):
            return Condition.MOVED
        if _above(covered, scene.occluded_above):
            return Condition.OCCLUDED
        if scene.light is not None and (_below(light, scene.light[0]) or _above(light, scene.light[1])):
            return Condition.LIGHT
        return Condition.BLURRED if blurred else Condition.OK

    def moved(self, seen: Measures) -> float | None:
        """By how many pixels the camera moved.

        Infinity: the scene is in none of its places any more. None: too few tiles see it to say, because things stand
        in them.
        """
        clear = self._tiles[seen.peaks[self._tiles] >= _CLEAR * self._peaks]
        found = agree(seen.shifts, clear, self._reference.step)
        if found.count >= _MOST * max(len(self._tiles), _FEWEST_TILES):
            return found.moved
        still = int(np.sum(np.abs(seen.shifts[clear]) <= _STILL))
        lost = self._textured & ~seen.white & (seen.alike < _LOST)
        elsewhere = still <= 1 and lost.sum() > _MOSTLY_LOST * self._textured.sum() >= _MOSTLY_LOST * _FEWEST_CELLS
        # What is seen instead has texture of its own, unlike a cover or a picture without focus.
        return math.inf if elsewhere and seen.busy > _BUSY else None

    def light(self, seen: Measures) -> float | None:
        """Logarithm of brightness over the reference's; None: no cells to measure it in."""
        return _median(seen.levels[self._steady], _FEWEST_CELLS)

    def sharpness(self, seen: Measures) -> float | None:
        """Share of the reference's sharpness, where the same things are seen.

        None: too few are. Zero: hardly any texture is left, even where most is.
        """
        if self._textured.sum() < _FEWEST_CELLS:
            return None
        gain = np.exp(np.median(seen.levels[self._textured]))  # light scales texture, and its energy by the square
        if np.quantile(seen.texture[self._textured], _SHARPEST) < _OWN_TEXTURE * gain**2:
            return 0.0
        return _median(seen.sharpness[self._sharp & (seen.alike > _LOST)], _FEWEST_SHARP)

    def covered(self, seen: Measures) -> float | None:
        """Share of the picture in which the scene is not found; None: no cells to measure it in.

        A cover takes texture and brightness; a change of light takes no texture, a thing taken away or a blurred
        picture little brightness.
        """
        lost = self._lost(seen)
        if lost is None or self._steady.sum() < _FEWEST_CELLS:
            return None
        changed = float(np.mean(np.abs(seen.levels[self._steady]) > _CHANGED))
        return lost if lost > _ALL_LOST else min(lost, changed)

    def _lost(self, seen: Measures) -> float | None:
        """Share of the textured cells whose texture is gone; None: there are too few to say."""
        textured = self._textured & ~seen.white
        return float(np.mean(seen.alike[textured] < _LOST)) if textured.sum() >= _FEWEST_CELLS else None


def _above(value: float | None, limit: float | None) -> bool:
    return value is not None and limit is not None and value > limit


def _below(value: float | None, limit: float | None) -> bool:
    return value is not None and limit is not None and value < limit


def _limit_of_motion(good: list[float | None]) -> float | None:
    found = _mostly_found(good)
    return None if found is None or max(found) > _STILL else max(MOVED_AT_LEAST, 1.5 * max(found))


def _range_of_light(good: list[float | None]) -> tuple[float, float] | None:
    found = _mostly_found(good)
    if found is None or max(found) - min(found) > _WIDE:
        return None
    return min(found) - LIGHT_MARGIN, max(found) + LIGHT_MARGIN


def _limit_of_sharpness(good: list[float | None]) -> float | None:
    found = _mostly_found(good)
    if found is None or min(found) < (1 - _WIDE) * float(np.median(found)):
        return None
    return BLURRED_BELOW * min(found)


def _limit_of_cover(good: list[float | None]) -> float | None:
    found = _mostly_found(good)
    return None if found is None or max(found) > OCCLUDED_ABOVE / 2 else OCCLUDED_ABOVE


def _mostly_found(good: list[float | None]) -> list[float] | None:
    """The values; None where too many good pictures have none."""
    found = [value for value in good if value is not None]
    return found if len(found) >= _USUAL * len(good) else None


def _usually(holds: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Where it holds in nearly all pictures, `[n, …]` to `[…]`."""
    return np.asarray(holds.mean(axis=0) >= _USUAL)


def _median(values: NDArray[np.float32], fewest: int) -> float | None:
    return float(np.median(values)) if values.size >= fewest else None


def _numbers(chosen: NDArray[np.bool_]) -> Numbers:
    return tuple(int(number) for number in np.flatnonzero(chosen))


def _cells(numbers: Numbers) -> NDArray[np.bool_]:
    chosen = np.zeros(CELLS * CELLS, np.bool_)
    chosen[list(numbers)] = True
    return chosen.reshape(CELLS, CELLS)


def _working_size(picture: RGB) -> tuple[int, int]:
    """Width and height, the longer one `SIDE`."""
    height, width = picture.shape[:2]
    longer = max(height, width)
    return max(1, round(width * SIDE / longer)), max(1, round(height * SIDE / longer))


def _grey(picture: RGB, size: tuple[int, int]) -> NDArray[np.uint8]:
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    if (grey.shape[1], grey.shape[0]) == size:
        return np.asarray(grey)
    way = cv2.INTER_AREA if max(grey.shape) > SIDE else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(grey, size, interpolation=way))


def _encode(picture: NDArray[np.uint8]) -> str:
    done, png = cv2.imencode(".png", picture)
    if not done:
        raise ValueError(f"a picture of shape {picture.shape} cannot be written as PNG")
    return base64.b64encode(png.tobytes()).decode("ascii")


def _decode(png: str) -> NDArray[np.uint8]:
    data = base64.b64decode(png)
    try:
        check_size(data, "the scene's reference picture")
    except ImageError as error:
        raise ValueError(f"{error}: calibrate the model again") from error
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)
    if picture is None:
        raise ValueError("the scene's reference picture is damaged: calibrate the model again")
    return np.asarray(picture, np.uint8)
