"""How a picture differs from the reference of its scene: where things are, how bright, how alike, how sharp.

Pictures are grey, `[h, w]`, the longer side `SIDE`. They are compared in *tiles* (3 x 3, each half as wide and high as
the picture, overlapping) for where things are, and in *cells* (16 x 16) for the rest. What is concluded from them
(`agree`, and the medians and shares in `inference.scene`) is what most tiles or cells say, so that an object in a part
of the picture, which is the detector's business, does not count.
"""

from dataclasses import dataclass
from itertools import combinations

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import fft

Grey = NDArray[np.float32]

SIDE = 256
"""Longer side of a picture that is compared, pixels; a detector's cell is mostly 4 of them."""
CELLS = 16
"""Cells along each side."""
TILES = tuple((down, across) for down in range(3) for across in range(3))
"""Row and column of each tile."""

_PASS = 0.12  # cycles per pixel: deviation of the low-pass of the correlation; above it there is mostly noise
_AGREE = (0.5, 0.15)  # pixels, and share of the motion, by which a tile may differ from what tiles agree on
_MAX_WARP = 0.15  # a camera turned or zoomed by more than this is not aligned
_DARK_END = 4.0  # grey levels added before logarithms, so that noise in the dark is not taken for light
_NOISE = 1.0  # variance in squared grey levels below which a cell holds no texture
_MASKED = 127  # what `ingest.preprocess` paints outside the mask polygon
_PLACES = np.array([(1, across - 1, down - 1) for down, across in TILES], np.float32)  # 1, right, down
# All threes that do not lie on a line, and from three shifts the affine map that makes them.
_THREES = np.array([t for t in combinations(range(len(TILES)), 3) if abs(np.linalg.det(_PLACES[list(t)])) > 0.5])
_SOLVED = np.linalg.inv(_PLACES[_THREES])


@dataclass(frozen=True, slots=True)
class Measures:
    """What one picture shows, compared with the reference.

    Attributes:
        shifts: `[9]` complex: displacement of each tile (right + i down), in pixels.
        peaks: `[9]` height of each tile's correlation, 0 to about 1, for as much of it as is still in view: how surely
            the scene is there.
        levels: `[16, 16]` logarithm of each cell's brightness over the reference's.
        alike: `[16, 16]` correlation of each cell's texture with the reference's, -1 to 1, whatever the light.
        texture: `[16, 16]` energy of each cell's texture over the reference's.
        sharpness: `[16, 16]` share of the finest detail in each cell's texture, over the reference's.
        busy: share of the cells with more texture than half of the reference's have.
        white: `[16, 16]` bool: cells mostly clipped, in which no texture can show.
    """

    shifts: NDArray[np.complex64]
    peaks: Grey
    levels: Grey
    alike: Grey
    texture: Grey
    sharpness: Grey
    busy: float
    white: NDArray[np.bool_]


class Reference:
    """What the pictures of one scene are compared with; only read after it is made, so threads may share it.

    Args:
        picture: `[h, w]` uint8, grey.

    Attributes:
        detail: `[16, 16]` energy of each cell's finest detail.
        inside: `[16, 16]` bool: cells that lie inside the mask polygon.
        step: pixels from one tile to the next, along the longer side.
    """

    def __init__(self, picture: NDArray[np.uint8]) -> None:
        grey = picture.astype(np.float32)
        self._size = (grey.shape[1] // 2, grey.shape[0] // 2)  # width, height
        self._tile = (self._size[1] // 2, self._size[0] // 2)  # height, width
        tall, wide = self._tile
        self.step = float(max(tall, wide))
        # The mask's edge does not move with the camera: it is faded out.
        visible = self._half(np.asarray(cv2.blur((~_masked(picture)).astype(np.float32), (9, 9)), np.float32))
        self.inside = _cells(visible) > 0.9
        self._visible = np.square(visible)
        window = np.outer(np.hanning(tall + 2)[1:-1], np.hanning(wide + 2)[1:-1]).astype(np.float32)
        self._windows = window * self._cut(self._visible)
        self._weights = self._windows.sum(axis=(1, 2), keepdims=True) + np.float32(1e-6)
        frequencies = fft.fftfreq(tall)[:, None] ** 2 + fft.rfftfreq(wide)[None, :] ** 2
        self._low_pass = np.exp(-frequencies / (2 * _PASS**2)).astype(np.float32)
        self._highest = float(fft.irfft2(self._low_pass, s=self._tile).max())
        half = self._half(grey)
        self._spectra = np.conj(self._spectrum(half))
        self._floor = 1e-4 * np.abs(self._spectra).max(axis=(1, 2), keepdims=True) ** 2 + np.float32(1e-6)
        self._levels = _cells(half)
        self._waves = _waves(half)
        self._energy = _cells(self._waves**2)
        self._usual = np.median(self._energy) + _NOISE
        self.detail = _cells(_detail(grey))

    def measure(self, picture: NDArray[np.uint8]) -> Measures:
        """Compare a picture, `[h, w]` uint8, grey and of the reference's size, with it."""
        grey = picture.astype(np.float32)
        half = self._half(grey)
        shifts, peaks = self._align(half)
        waves, levels, detail = _waves(half), _cells(half), _cells(_detail(grey)) + _NOISE
        energy, mine = _cells(waves**2) + _NOISE, self._energy + _NOISE
        return Measures(
            shifts=2 * shifts,
            peaks=peaks,
            levels=np.log((levels + _DARK_END) / (self._levels + _DARK_END)),
            alike=np.asarray(_cells(waves * self._waves) / np.sqrt(energy * mine), np.float32),
            texture=energy / mine,
            sharpness=np.asarray(detail * mine / (energy * (self.detail + _NOISE)), np.float32),
            busy=float(np.mean(energy > self._usual)),
            white=levels > 247,
        )

    def _half(self, grey: Grey) -> Grey:
        return np.asarray(cv2.resize(grey, self._size, interpolation=cv2.INTER_AREA), np.float32)

    def _cut(self, half: Grey) -> Grey:
        """Tiles `[9, tall, wide]`."""
        tall, wide = self._tile
        corners = [(down * (tall // 2), across * (wide // 2)) for down, across in TILES]
        return np.stack([half[top : top + tall, left : left + wide] for top, left in corners])

    def _spectrum(self, half: Grey) -> NDArray[np.complex64]:
        tiles = self._cut(half)
        means = (tiles * self._windows).sum(axis=(1, 2), keepdims=True) / self._weights
        return np.asarray(fft.rfft2((tiles - means) * self._windows), np.complex64)

    def _align(self, half: Grey) -> tuple[NDArray[np.complex64], Grey]:
        """Phase correlation of each tile, its peak found to a fraction of a pixel by a parabola through three points.

        Source: Kuglin and Hines, "The phase correlation image alignment method", 1975. The phases are weighted with a
        low-pass, because those of high frequencies are the sensor's noise.
        """
        cross = self._spectrum(half) * self._spectra
        cross *= self._low_pass / (np.abs(cross) + self._floor)
        surface = np.asarray(fft.irfft2(cross, s=self._tile), np.float32)
        tall, wide = self._tile
        peaks = surface.reshape(len(surface), -1).argmax(axis=1)
        tile, down, across = np.arange(len(surface)), peaks // wide, peaks % wide
        top = surface[tile, down, across]
        dy = _vertex(surface[tile, down - 1, across], top, surface[tile, (down + 1) % tall, across])
        dx = _vertex(surface[tile, down, across - 1], top, surface[tile, down, (across + 1) % wide])
        y = (down + tall // 2) % tall - tall // 2 + dy
        x = (across + wide // 2) % wide - wide // 2 + dx
        in_view = (
            (1 - np.abs(x) / wide) * (1 - np.abs(y) / tall)
        ) ** 2  # squared for the window, which favours the middle
        return np.asarray(x + 1j * y, np.complex64), np.asarray(top / (self._highest * in_view), np.float32)


@dataclass(frozen=True, slots=True)
class Agreement:
    """What tiles say together about the camera.

    Attributes:
        count: tiles that one motion of the camera explains.
        moved: their median displacement, pixels.
    """

    count: int
    moved: float


def agree(shifts: NDArray[np.complex64], tiles: NDArray[np.intp], step: float) -> Agreement:
    """Find the motion of the camera that explains most tiles.

    A camera that is shifted, turned or zoomed moves all tiles by one affine map of their places; things that were moved
    each go their own way. There are so few tiles that each one and all threes of them can be tried: random sample
    consensus (Fischler and Bolles 1981) without the chance.

    Args:
        shifts: `[9]` displacement of each tile.
        tiles: `[n]` numbers of the tiles that are asked.
        step: pixels from one tile to the next.
    """
    if len(tiles) == 0:
        return Agreement(0, 0.0)
    asked = shifts[tiles]
    middle = complex(np.median(asked.real), np.median(asked.imag))
    if (np.abs(asked - middle) <= _AGREE[0]).all():  # the usual case, for which no search is needed
        return Agreement(len(tiles), float(np.median(np.abs(asked))))
    among = np.isin(_THREES, tiles).all(axis=1)
    maps = np.einsum("nij,nj->ni", _SOLVED[among], shifts[_THREES[among]])
    maps = maps[(np.abs(maps[:, 1:]) <= _MAX_WARP * step).all(axis=1)]
    plain = asked[:, None] * np.array([1, 0, 0], np.complex64)
    motions = np.concatenate([plain, maps]) @ _PLACES[tiles].T  # plain shifts first: the first of equals is taken
    agreeing = np.abs(asked - motions) <= _AGREE[0] + _AGREE[1] * np.abs(motions)
    best = agreeing[agreeing.sum(axis=1).argmax()]
    return Agreement(int(best.sum()), float(np.median(np.abs(asked[best]))))


def _masked(picture: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Where a picture shows the even grey outside the mask; a single pixel of that grey is none."""
    same = (picture == _MASKED).astype(np.uint8)
    return cv2.morphologyEx(same, cv2.MORPH_OPEN, np.ones((7, 7), np.uint8)) > 0


def _cells(values: Grey) -> Grey:
    """Mean over each cell, `[16, 16]`."""
    return np.asarray(cv2.resize(values, (CELLS, CELLS), interpolation=cv2.INTER_AREA), np.float32)


def _waves(half: Grey) -> Grey:
    """What varies within a cell, without the finest detail, which is mostly noise."""
    return np.asarray(cv2.GaussianBlur(half, (0, 0), 0.8) - cv2.blur(half, (9, 9)), np.float32)


def _detail(grey: Grey) -> Grey:
    """Energy of the finest detail."""
    return np.asarray(cv2.Laplacian(grey, cv2.CV_32F) ** 2, np.float32)


def _vertex(before: Grey, top: Grey, after: Grey) -> Grey:
    """Where the parabola through three neighbouring points peaks, -0.5 to 0.5 from the middle one."""
    bend = before - 2 * top + after
    return np.where(bend < 0, 0.5 * (before - after) / np.where(bend < 0, bend, -1), 0).clip(-0.5, 0.5)
