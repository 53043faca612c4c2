"""How a fitted detector stands against made-up defects, and which of several stands best.

The held-out images are few, so an AUROC is a guess, and the highest of several is a lucky one. Images are therefore
drawn again with replacement (bootstrap), each with all its made-up defects, because those share its background; and
all detectors are compared on the same draws, because an image that is hard for one is hard for the others.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from inference.detectors.base import Detector
from inference.errors import FitError
from inference.training.images import Images, ahead, to_batch
from inference.training.metrics import PixelScores
from inference.training.probes import probes
from inference.training.recipe import Recipe
from inference.training.report import Report

FALSE_ALARMS = 0.05
"""Share of good images above the threshold at which found defects are counted."""

_DRAWS = 1000
_SURE = 0.95  # one-sided, of one detector being better than another
_PIXEL_BITS = 18  # of PixelScores: 6 MB, neighbouring scores 0.2 % apart
_SAME_AUPRO = 0.01  # nobody would prefer a detector for less


@dataclass(frozen=True)
class Standing:
    """Scores of held-out images and of their made-up defects.

    Attributes:
        good: `[n]` float64.
        defects: of each kind `[n, copies]` float64, row i made from image i.
        compared_on: kinds that count; the others are for information.
        pixel_auroc: over the kinds that count; None without pixel maps, as is `aupro`.
        aupro: likewise.
    """

    good: NDArray[np.float64]
    defects: dict[str, NDArray[np.float64]]
    compared_on: tuple[str, ...]
    pixel_auroc: float | None
    aupro: float | None

    @cached_property
    def counting(self) -> NDArray[np.float64]:
        """Scores of the defects that count, `[n, m]`."""
        return np.concatenate([self.defects[kind] for kind in self.compared_on], axis=1)

    @property
    def auroc(self) -> float:
        """Image AUROC over the kinds that count."""
        return float(_wins(self.good, self.counting).mean())

    def auroc_of(self, kind: str) -> float:
        """Image AUROC of one kind."""
        return float(_wins(self.good, self.defects[kind]).mean())

    @property
    def found(self) -> float:
        """Share of the defects that count above the threshold that 5 % of the held-out good images exceed."""
        return float(np.mean(self.counting > np.quantile(self.good, 1 - FALSE_ALARMS, method="higher")))

    def auroc_draws(self, seed: int) -> NDArray[np.float64]:
        """Image AUROC of each bootstrap draw `[1000]`; the same seed draws the same images."""
        n = self.good.size
        weights = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=_DRAWS)  # [draws, n]
        wins = _wins(self.good, self.counting)
        return np.asarray(np.einsum("bi,ij,bj->b", weights, wins, weights, optimize=True) / n**2)

    def interval(self, seed: int) -> tuple[float, float]:
        """Bounds between which 90 % of the draws lie."""
        low, high = np.quantile(self.auroc_draws(seed), [1 - _SURE, _SURE])
        return float(low), float(high)


def _wins(good: NDArray[np.float64], defects: NDArray[np.float64]) -> NDArray[np.float64]:
    """How often the defects of image j `[n, m]` score higher than good image i, `[n, n]`; a tie is half a win."""
    order = np.sort(defects, axis=1)
    above = order.shape[1] - np.stack([np.searchsorted(row, good, "right") for row in order], axis=1)
    at_least = order.shape[1] - np.stack([np.searchsorted(row, good, "left") for row in order], axis=1)
    return np.asarray((above + at_least) / 2 / order.shape[1], np.float64)


@torch.inference_mode()
def stand(
    made: Recipe,
    detector: Detector,
    images: Images,
    *,
    kinds: Sequence[str],
    compared_on: tuple[str, ...],
    copies: int,
    what: str,
    report: Report,
) -> Standing:
    """Score held-out good images and their made-up defects.

    Args:
        made: what the detector was made from.
        detector: fitted.
        images: good images it has not seen.
        kinds: made-up defects to score.
        compared_on: those of them that count.
        copies: of each kind on each image.
        what: said to `report`.
        report: told how far the work is.

    Raises:
        FitError: a score or map is not finite.
    """
    pixels = PixelScores(_PIXEL_BITS) if detector.pixel_maps else None
    scores: dict[str, list[float]] = {kind: [] for kind in ("good", *kinds)}
    items = probes(images, kinds=kinds, copies=copies, seed=made.settings.seed)
    total, done = len(images) * (1 + copies * len(kinds)), 0
    for batch in ahead(iter(lambda: list(islice(items, made.batch)), [])):
        detection = detector(to_batch(np.stack([probe.picture for probe in batch])).to(made.device))
        values, maps = detection.scores.double().cpu().numpy(), detection.maps.float().cpu().numpy()
        if not (np.isfinite(values).all() and np.isfinite(maps).all()):
            raise FitError(f"{detector.name} gives scores or maps that are not finite")
        for probe, value, found in zip(batch, values, maps, strict=True):
            scores[probe.kind].append(float(value))
            if pixels is not None and probe.kind in ("good", *compared_on):
                pixels.add(found, probe.mask)
        done += len(batch)
        report(what, done, total)
    good = np.asarray(scores.pop("good"))
    return Standing(
        good=good,
        defects={kind: np.asarray(values).reshape(good.size, copies) for kind, values in scores.items()},
        compared_on=compared_on,
        pixel_auroc=None if pixels is None else pixels.auroc(),
        aupro=None if pixels is None else pixels.aupro(),
    )


@dataclass(frozen=True, slots=True)
class Choice:
    """Which of several standings is best.

    Attributes:
        best: its index.
        equals: indices of those whose image AUROC chance does not tell from the highest, that one among them.
        by: what told the best from its equals; `nothing` when it is the only one.
    """

    best: int
    equals: tuple[int, ...]
    by: Literal["nothing", "AUPRO", "latency"]


def choose(standings: Sequence[tuple[Standing, float]], seed: int) -> Choice:
    """Take the highest image AUROC; among its equals the highest AUPRO; within a hundredth of that the fastest.

    Args:
        standings: each with the milliseconds it takes; one at least.
        seed: of the bootstrap.
    """
    draws = [standing.auroc_draws(seed) for standing, _ in standings]
    highest = int(np.argmax([standing.auroc for standing, _ in standings]))
    surely = [float(np.quantile(draws[highest] - each, 1 - _SURE)) > 0 for each in draws]
    equals = tuple(index for index, better in enumerate(surely) if not better)
    if len(equals) == 1:
        return Choice(highest, equals, "nothing")
    overlap = {index: standings[index][0].aupro or 0.0 for index in equals}
    finest = [index for index in equals if overlap[index] >= max(overlap.values()) - _SAME_AUPRO]
    best = min(finest, key=lambda index: standings[index][1])
    return Choice(best, equals, "AUPRO" if len(finest) == 1 else "latency")
