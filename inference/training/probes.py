"""Made-up defects on good images, to compare detectors before a real defect was seen.

Confetti, CutPaste and scars are those a detector may train against; having trained on a kind it finds it better than
whatever comes later, so such kinds are no measure. Scratch and dent are kept here, out of the detectors' reach: no
detector can have trained with them.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from inference.detectors.pseudo_anomalies import KINDS, Anomalous, anomalies
from inference.training.datasets import Mask
from ingest.preprocess import RGB

HELD_BACK = ("scratch", "dent")
PROBES: tuple[str, ...] = (*KINDS, *HELD_BACK)

_RELATIVES = ({"cutpaste", "scar"},)  # a scar is a small patch pasted askew: who learned one, learned the other
_NOTICEABLE = 12  # largest change, in grey levels, below which a defect is drawn anew
_FAINT = 3  # change, in grey levels, below which a pixel does not belong to the defect


@dataclass(frozen=True, slots=True)
class Probe:
    """A picture to be judged: image `number` as it is (`kind` good, nothing masked), or with a made-up defect."""

    number: int
    kind: str
    picture: RGB
    mask: Mask


def impartial(trained_with: Iterable[str]) -> tuple[str, ...]:
    """Kinds of probes that do not favour detectors which trained with these kinds: neither they nor their relatives."""
    known = set(trained_with)
    for family in _RELATIVES:
        if known & family:
            known |= family
    return tuple(kind for kind in PROBES if kind not in known)


def probes(images: Iterable[RGB], *, kinds: Sequence[str], copies: int, seed: int) -> Iterator[Probe]:
    """Each image as it is, and then `copies` of each kind on it; every copy follows from the seed and its place alone.

    Args:
        images: good pictures `[h, w, 3]` uint8 RGB.
        kinds: out of `PROBES`.
        copies: of each kind on each image.
        seed: everything drawn derives from it.
    """
    for number, picture in enumerate(images):
        yield Probe(number, "good", picture, np.zeros(picture.shape[:2], bool))
        for kind in kinds:
            for copy in range(copies):
                rng = np.random.default_rng([seed, number, PROBES.index(kind), copy])
                maker = _HELD_BACK.get(kind)
                changed, mask = anomalies(picture, rng, (kind,)) if maker is None else maker(picture, rng)
                yield Probe(number, kind, changed, mask)


def scratch(picture: RGB, rng: np.random.Generator) -> Anomalous:
    """A thin, slightly bent line, brighter or darker than what it crosses; 1 to 3 pixels wide at a size of 240."""
    height, width = picture.shape[:2]
    scale = min(height, width) / 240
    while True:
        heading, length = rng.uniform(0, 2 * np.pi), scale * rng.uniform(20, 80)
        along = np.array([np.cos(heading), np.sin(heading)])
        aside = np.array([-along[1], along[0]])
        t = np.linspace(-1, 1, 16)[:, None]
        points = rng.uniform((0, 0), (width, height)) + length / 2 * (t * along + rng.uniform(-0.3, 0.3) * t**2 * aside)
        strength = np.zeros((height, width), np.uint8)
        thickness = max(1, round(scale * rng.uniform(1, 3)))
        cv2.polylines(strength, [(16 * points).round().astype(np.int32)], False, 255, thickness, cv2.LINE_AA, 4)
        shade = rng.uniform(30, 90) * rng.choice([-1, 1])
        if (found := _shaded(picture, shade * strength.astype(np.float32) / 255)) is not None:
            return found


def dent(picture: RGB, rng: np.random.Generator) -> Anomalous:
    """A hollow lit from one side: one flank brighter, the other darker; 16 to 60 pixels across at a size of 240."""
    height, width = picture.shape[:2]
    scale = min(height, width) / 240
    while True:
        x, y = rng.uniform(0, width), rng.uniform(0, height)
        across, down = scale * rng.uniform(4, 15, 2)
        light = rng.uniform(0, 2 * np.pi)
        u = (np.arange(width, dtype=np.float32)[None] - x) / across
        v = (np.arange(height, dtype=np.float32)[:, None] - y) / down
        slope = (np.cos(light) * u + np.sin(light) * v) * np.exp((1 - u**2 - v**2) / 2)  # within -1 and 1
        if (found := _shaded(picture, rng.uniform(25, 70) * slope)) is not None:
            return found


_HELD_BACK: dict[str, Callable[[RGB, np.random.Generator], Anomalous]] = {"scratch": scratch, "dent": dent}


def _shaded(picture: RGB, shade: np.ndarray) -> Anomalous | None:
    """The picture with grey levels `[h, w]` added; None if nobody would notice."""
    shade = np.where(np.abs(shade) < _FAINT, 0, shade)
    changed = (picture + shade[..., None]).round().clip(0, 255).astype(np.uint8)
    change = np.abs(changed.astype(np.int16) - picture).max(axis=2)
    return (changed, change > 0) if change.max() >= _NOTICEABLE else None
