"""Scores and maps of test pictures, counted as they come; figures fall out at the end.

A tally is small whatever it has seen (a score per picture, and the pixels' histograms), so those of several categories
can be kept in files and joined: the figures of all together then need no picture to be judged again.
"""

import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from inference.errors import DataError
from inference.training.datasets import Mask
from inference.training.metrics import PixelScores, image_metrics

MAX_BYTES = 1 << 30
"""A file of counts that unpacks to more is refused: ours have some megabytes."""


class Figures(BaseModel):
    """Figures in [0, 1]; null where they do not apply: no masks, no pixel maps, or one kind of picture only."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    image_auroc: float | None = None
    pixel_auroc: float | None = None
    aupro: float | None = None
    """Area under the per-region overlap up to a false-positive rate of 0.3, divided by 0.3."""
    image_f1_max: float | None = None
    """Best F1 over all thresholds, so an optimistic one; as is that of pixels."""
    pixel_f1_max: float | None = None
    image_average_precision: float | None = None
    pixel_average_precision: float | None = None


class Tally:
    """Scores `good` and `anomalous` of pictures, and counted pixels; None without masks or maps."""

    def __init__(self, *, pixels: bool) -> None:
        self.good: list[float] = []
        self.anomalous: list[float] = []
        self.pixels = PixelScores() if pixels else None

    def __len__(self) -> int:
        return len(self.good) + len(self.anomalous)

    def add(self, score: float, *, anomalous: bool, anomaly_map: NDArray[np.float32], mask: Mask) -> None:
        """Count one picture; its map `[h, w]` is of its mask's size."""
        (self.anomalous if anomalous else self.good).append(score)
        if self.pixels is not None:
            self.pixels.add(anomaly_map, mask)

    def figures(self) -> Figures:
        """Work out what has been counted."""
        found: dict[str, float] = {}
        if self.good and self.anomalous:
            images = image_metrics(self.good, self.anomalous)
            found["image_auroc"], found["image_f1_max"] = images.auroc, images.f1_max
            found["image_average_precision"] = images.average_precision
        if self.pixels is not None and self.pixels.n_regions:
            found["pixel_auroc"], found["aupro"] = self.pixels.auroc(), self.pixels.aupro()
            found["pixel_f1_max"] = self.pixels.f1_max()
            found["pixel_average_precision"] = self.pixels.average_precision()
        return Figures.model_validate(found)

    def join(self, counts: Mapping[str, NDArray[Any]]) -> None:
        """Add what another's `counts` gave; without pixels on either side there are none in the end."""
        self.good += counts["good"].tolist()
        self.anomalous += counts["anomalous"].tolist()
        if "bins" not in counts:
            self.pixels = None
        elif self.pixels is not None:
            self.pixels.join(counts)

    def counts(self) -> dict[str, NDArray[Any]]:
        """Give all that has been counted."""
        pixels = {} if self.pixels is None else self.pixels.counts()
        return {"good": np.asarray(self.good), "anomalous": np.asarray(self.anomalous), **pixels}


def joined(files: list[Path]) -> Tally:
    """Join the tallies whose counts lie in files; at least one.

    Raises:
        DataError: a file is damaged.
    """
    whole = Tally(pixels=True)
    for file in files:
        try:
            with file.open("rb") as opened, np.load(opened, allow_pickle=False) as found:
                small = sum(entry.file_size for entry in found.zip.infolist()) <= MAX_BYTES
                counts = {key: found[key] for key in found.files} if small else {}
        except (OSError, EOFError, ValueError, BadZipFile, zlib.error) as exc:
            raise DataError(f"{file} is damaged: remove it, and what it counts is judged again") from exc
        if not small:
            raise DataError(f"{file} is damaged: it would unpack to more than {MAX_BYTES} bytes: remove it")
        whole.join(counts)
    return whole
