"""Made-up defects: what a detector can train against, or be compared with, before the first real one was seen.

A picture is `[h, w, 3]` uint8 RGB. Sizes in pixels are given by the sources for squares of 240 (confetti) or 256 (scar)
pixels; they grow and shrink with the picture's shorter side, and the number of blobs with its area.

Sources: confetti is from FCDD (Liznerski et al., "Explainable Deep One-Class Classification", ICLR 2021, section 4 and
its reference code); CutPaste and its scar from Li et al., "CutPaste", CVPR 2021, section 2.2 and appendix A.

Unlike in the sources, nothing grey becomes coloured: blobs on a grey picture are grey, otherwise colour alone would
betray them on a monochrome camera. And a patch that can hardly be seen where it was pasted is drawn anew.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from inference.errors import InferenceError

Kind = Literal["confetti", "cutpaste", "scar"]
KINDS: tuple[Kind, ...] = get_args(Kind)

Anomalous = tuple[NDArray[np.uint8], NDArray[np.bool_]]
"""A changed copy of a picture `[h, w, 3]` uint8, and which of its pixels differ `[h, w]` bool, one at least."""

_JITTER = 0.1  # of brightness, contrast, saturation and hue
_VISIBLE = 0.01 * 255  # mean change inside a pasted patch, in grey levels, below which nobody could see it
_FLIP = 0.025  # mean change of the whole picture, in grey levels, below which confetti is tried the other way round


def anomalies(
    picture: NDArray[np.uint8], rng: np.random.Generator, kinds: Sequence[str] = ("confetti", "cutpaste")
) -> Anomalous:
    """One anomaly of a kind drawn from `kinds`, each equally likely.

    Args:
        picture: `[h, w, 3]` uint8; it is left as it is.
        rng: all that is random follows from it.
        kinds: out of `KINDS`.

    Raises:
        InferenceError: there is no such kind.
    """
    for kind in kinds:
        if kind not in _MAKERS:
            raise InferenceError(f"no pseudo-anomaly {kind!r}: choose from {', '.join(KINDS)}")
    return _MAKERS[kinds[int(rng.integers(len(kinds)))]](picture, rng)


def confetti(picture: NDArray[np.uint8], rng: np.random.Generator) -> Anomalous:
    """Blurred squares, some dark and some of any colour, are taken away from the picture (or, if dark, added to it).

    Arguments and result as for `anomalies`.
    """
    height, width = picture.shape[:2]
    scale = min(height, width) / 240
    colour = rng.uniform(-256, 0, (_blobs(picture, scale, 1.8e-5, rng), 1 if _is_grey(picture) else 3))
    dark = np.full((_blobs(picture, scale, 1.2e-5, rng), 3), -255.0)
    noise: NDArray[np.float32] = np.zeros((height, width, 3), np.float32)
    for values in (np.broadcast_to(colour, (len(colour), 3)), dark):
        layer = np.zeros_like(noise)
        for value in values:
            centre, side, angle = rng.uniform((0, 0), (width, height)), scale * rng.uniform(8, 54), rng.uniform(-45, 45)
            corners = cv2.boxPoints((centre.tolist(), (side, side), angle))
            cv2.fillConvexPoly(layer, corners.round().astype(np.int32), value.tolist())
        noise += layer
    reach = 2 * max(1, round(12 * scale)) + 1
    blurred = cv2.GaussianBlur(noise, (reach, reach), 5 * scale)
    changed = _added(picture, blurred)
    if abs(_mean_change(picture, changed)) < _FLIP:
        flipped = _added(picture, -blurred)
        if abs(_mean_change(picture, flipped)) > abs(_mean_change(picture, changed)):
            changed = flipped
    return changed, _differing(picture, changed)


def cutpaste(picture: NDArray[np.uint8], rng: np.random.Generator) -> Anomalous:
    """A rectangle of the picture, its colours slightly off, is pasted elsewhere: 2 to 15 % of the area.

    Arguments and result as for `anomalies`; all change lies within one rectangle.
    """
    height, width = picture.shape[:2]
    while True:
        area, aspect = rng.uniform(0.02, 0.15) * height * width, np.exp(rng.uniform(np.log(0.3), -np.log(0.3)))
        tall = int(np.clip(round(np.sqrt(area / aspect)), 1, height))
        wide = int(np.clip(round(np.sqrt(area * aspect)), 1, width))
        patch = _jittered(_cut(picture, tall, wide, rng), rng)
        if (pasted := _pasted(picture, patch, np.ones((tall, wide), np.bool_), rng)) is not None:
            return pasted


def scar(picture: NDArray[np.uint8], rng: np.random.Generator) -> Anomalous:
    """A thin strip of the picture, its colours slightly off, is turned by up to 45 degrees and pasted elsewhere.

    Arguments and result as for `anomalies`.
    """
    scale = min(picture.shape[:2]) / 256
    while True:
        wide, tall = max(1, round(scale * rng.uniform(2, 16))), max(2, round(scale * rng.uniform(10, 25)))
        wide, tall = min(wide, picture.shape[1]), min(tall, picture.shape[0])
        patch = _jittered(_cut(picture, tall, wide, rng), rng)
        if (pasted := _pasted(picture, *_turned(patch, rng.uniform(-45, 45)), rng)) is not None:
            return pasted


_MAKERS: dict[str, Callable[[NDArray[np.uint8], np.random.Generator], Anomalous]] = {
    "confetti": confetti,
    "cutpaste": cutpaste,
    "scar": scar,
}


def _blobs(picture: NDArray[np.uint8], scale: float, rate: float, rng: np.random.Generator) -> int:
    """How many of a layer's pixels, at a size of 240, start a blob: one at least."""
    return max(1, int(rng.binomial(round(picture.shape[0] * picture.shape[1] / scale**2), rate)))


def _cut(picture: NDArray[np.uint8], tall: int, wide: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    top, left = (int(rng.integers(room + 1)) for room in (picture.shape[0] - tall, picture.shape[1] - wide))
    return picture[top : top + tall, left : left + wide]


def _jittered(patch: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Brightness is shifted rather than scaled, so that black changes too; what is grey stays grey."""
    brightness, contrast, saturation, hue = rng.uniform(-_JITTER, _JITTER, 4)
    hsv = cv2.cvtColor(patch.astype(np.float32) / 255, cv2.COLOR_RGB2HSV)
    hsv[..., 0] = (hsv[..., 0] + 360 * hue) % 360
    hsv[..., 1] = np.clip(hsv[..., 1] * (1 + saturation), 0, 1)
    rgb = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
    rgb = (rgb - rgb.mean()) * (1 + contrast) + rgb.mean() + brightness
    return np.asarray((rgb * 255).round().clip(0, 255), np.uint8)


def _turned(patch: NDArray[np.uint8], angle: float) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """The patch `[h, w, 3]` turned about its centre by `angle` degrees, and where in its new frame it lies."""
    tall, wide = patch.shape[:2]
    turn = cv2.getRotationMatrix2D(((wide - 1) / 2, (tall - 1) / 2), angle, 1)
    cosine, sine = abs(turn[0, 0]), abs(turn[0, 1])
    frame = (int(np.ceil(wide * cosine + tall * sine)), int(np.ceil(wide * sine + tall * cosine)))
    turn[:, 2] += ((frame[0] - wide) / 2, (frame[1] - tall) / 2)
    inside = cv2.warpAffine(np.ones((tall, wide), np.uint8), turn, frame, flags=cv2.INTER_NEAREST)
    return cv2.warpAffine(patch, turn, frame, borderMode=cv2.BORDER_REPLICATE).astype(np.uint8), inside.astype(np.bool_)


def _pasted(
    picture: NDArray[np.uint8], patch: NDArray[np.uint8], inside: NDArray[np.bool_], rng: np.random.Generator
) -> Anomalous | None:
    """The picture with `patch` on it, where `inside` is true; None if that can hardly be seen."""
    patch, inside = patch[: picture.shape[0], : picture.shape[1]], inside[: picture.shape[0], : picture.shape[1]]
    tall, wide = inside.shape
    top, left = (int(rng.integers(room + 1)) for room in (picture.shape[0] - tall, picture.shape[1] - wide))
    changed = picture.copy()
    under = changed[top : top + tall, left : left + wide]
    change = np.abs(patch.astype(np.int16) - under)[inside]
    if not change.size or change.mean() < _VISIBLE:
        return None
    under[inside] = patch[inside]
    return changed, _differing(picture, changed)


def _added(picture: NDArray[np.uint8], noise: NDArray[Any]) -> NDArray[np.uint8]:
    return np.asarray((picture + noise).round().clip(0, 255), np.uint8)


def _mean_change(picture: NDArray[np.uint8], changed: NDArray[np.uint8]) -> float:
    return float(changed.mean() - picture.mean())


def _differing(picture: NDArray[np.uint8], changed: NDArray[np.uint8]) -> NDArray[np.bool_]:
    return np.asarray((changed != picture).any(axis=-1))


def _is_grey(picture: NDArray[np.uint8]) -> bool:
    return bool((picture[..., :1] == picture[..., 1:]).all())
