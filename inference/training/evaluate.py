"""How good a bundle is on a test set it has never seen, through the very engine that will serve it.

Maps and masks are compared at the resolution of the model's input: masks are resized by nearest neighbour, maps that
are coarser are interpolated. The figures are then those of papers that resize images and masks alike (PaDiM does), and
do not depend on the camera's resolution.
"""

import time
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from inference.calibration import Calibration
from inference.detectors import detector_class
from inference.engine import Engine
from inference.errors import EngineError
from inference.false_alarms import USUAL, FalseAlarms
from inference.threshold import Threshold
from inference.training.datasets import Mask, TestSet
from inference.training.images import ahead
from inference.training.metrics import Curve, PixelScores, image_metrics
from inference.training.report import Report, silent
from ingest.preprocess import RGB
from storage.models import Bundle

SPECIMENS = 4
"""Images kept of each end of the ranking, for the sheet of heat maps."""


class Kind(BaseModel):
    """How well one kind of defect is told from good."""

    model_config = ConfigDict(frozen=True)

    n: int
    image_auroc: float
    escape_rate: float | None
    """Share of these defects that pass at the threshold."""


class Evaluation(BaseModel):
    """What `linewatch evaluate --json` writes; what does not apply is null."""

    model_config = ConfigDict(frozen=True)

    model: str
    image_auroc: float
    pixel_auroc: float | None
    """Null without masks or without pixel maps, as is `aupro`."""
    aupro: float | None
    f1_max: float
    average_precision: float
    false_alarm_rate: float | None
    """Share of `test/good` above the threshold; null when the bundle is not calibrated, as are the next three."""
    escape_rate: float | None
    """Share of defects that are not above the threshold."""
    asked_rate: float | None
    threshold: float | None
    n_good: int
    n_defect: int
    ms_per_image: float
    """Time of the engine alone, in batches of `batch`."""
    batch: int
    kinds: dict[str, Kind]


@dataclass(frozen=True, slots=True)
class Specimen:
    """One judged image, kept to be looked at."""

    name: str
    score: float
    picture: RGB
    anomaly_map: NDArray[np.float32]
    mask: Mask


@dataclass(slots=True)
class Findings:
    """An evaluation and what its plots are drawn from."""

    summary: Evaluation
    limit: Threshold | None
    scores: dict[str, NDArray[np.float64]]
    """Image scores by kind, `good` among them."""
    roc: Curve | None
    pro: Curve | None
    worst_good: list[Specimen] = field(default_factory=list)
    best_defects: list[Specimen] = field(default_factory=list)
    worst_defects: list[Specimen] = field(default_factory=list)


def evaluate(
    bundle: Bundle,
    data: Path,
    *,
    asked: FalseAlarms = USUAL,
    fps: float | None = None,
    device: str = "auto",
    batch: int = 8,
    report: Report = silent,
) -> Findings:
    """Judge a test set in MVTec AD's layout.

    Args:
        bundle: the model.
        data: folder with `test` and, for pixel metrics, `ground_truth`.
        asked: false alarms asked of the bundle's calibration.
        fps: images judged a second, for what is asked per time.
        device: `auto`, `cpu`, `cuda`, …
        batch: images judged at once.
        report: told how far the work is.

    Raises:
        DataError: the test set cannot be used.
        EngineError: a score or map is not finite.
    """
    engine = Engine(bundle, device=device)
    tests = TestSet(data, engine.preprocessing)
    pixels = PixelScores() if tests.has_masks and detector_class(bundle.manifest.detector).pixel_maps else None
    scores: dict[str, list[float]] = {}
    good, best, worst = _Podium(), _Podium(), _Podium()
    seconds, done = 0.0, 0
    items = iter(tests)
    for group in ahead(iter(lambda: list(islice(items, batch)), [])):
        pictures = np.stack([picture for _, picture, _ in group])
        if done == 0:
            engine.judge(pictures)  # the first call also loads, compiles and allocates: not timed
        started = time.monotonic()
        judgement = engine.judge(pictures)
        seconds += time.monotonic() - started
        for (image, picture, mask), value, found in zip(group, judgement.scores, judgement.maps, strict=True):
            score, anomaly_map = float(value), fit_map(found, mask)
            if not (np.isfinite(score) and np.isfinite(anomaly_map).all()):
                raise EngineError(f"{bundle.ref} gives {image.path} a score or map that is not finite")
            scores.setdefault(image.kind, []).append(score)
            if pixels is not None:
                pixels.add(anomaly_map, mask)
            specimen = Specimen(f"{image.kind}/{image.path.name}", score, picture, anomaly_map, mask)
            if image.good:
                good.enter(score, specimen)
            else:
                best.enter(score, specimen)
                worst.enter(-score, specimen)
        done += len(group)
        report("evaluating", done, len(tests.images))
    by_kind = {kind: np.asarray(values) for kind, values in scores.items()}
    stored = bundle.calibration()
    limit = None if stored is None else Calibration.model_validate(stored).limit(asked, fps=fps)
    return Findings(
        summary=_summarise(bundle.ref, by_kind, pixels, limit, ms_per_image=1e3 * seconds / done, batch=batch),
        limit=limit,
        scores=by_kind,
        roc=None if pixels is None else pixels.roc_curve(),
        pro=None if pixels is None else pixels.pro_curve(),
        worst_good=good.specimens,
        best_defects=best.specimens,
        worst_defects=worst.specimens,
    )


class _Podium:
    """The few highest-ranked specimens seen so far."""

    def __init__(self) -> None:
        self._ranked: list[tuple[float, Specimen]] = []

    def enter(self, rank: float, specimen: Specimen) -> None:
        self._ranked.append((rank, specimen))
        self._ranked.sort(key=lambda entry: -entry[0])
        del self._ranked[SPECIMENS:]

    @property
    def specimens(self) -> list[Specimen]:
        return [specimen for _, specimen in self._ranked]


def fit_map(found: NDArray[np.float32], mask: Mask) -> NDArray[np.float32]:
    """Bring a map `[h, w]` to the size of its mask, bilinearly."""
    if found.shape == mask.shape:
        return found
    height, width = mask.shape
    return np.asarray(cv2.resize(found, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)


def _summarise(
    model: str,
    scores: dict[str, NDArray[np.float64]],
    pixels: PixelScores | None,
    limit: Threshold | None,
    **timing: Any,
) -> Evaluation:
    good = scores["good"]
    kinds = {kind: values for kind, values in scores.items() if kind != "good"}
    defects = np.concatenate(list(kinds.values()))
    images = image_metrics(good, defects)

    def passing(values: NDArray[np.float64]) -> float | None:
        return None if limit is None else float(np.mean(values <= limit.threshold))

    passed = passing(good)
    return Evaluation(
        model=model,
        image_auroc=images.auroc,
        pixel_auroc=None if pixels is None else pixels.auroc(),
        aupro=None if pixels is None else pixels.aupro(),
        f1_max=images.f1_max,
        average_precision=images.average_precision,
        false_alarm_rate=None if passed is None else 1 - passed,
        escape_rate=passing(defects),
        asked_rate=None if limit is None else limit.asked,
        threshold=None if limit is None else limit.threshold,
        n_good=good.size,
        n_defect=defects.size,
        kinds={
            kind: Kind(n=values.size, image_auroc=image_metrics(good, values).auroc, escape_rate=passing(values))
            for kind, values in kinds.items()
        },
        **timing,
    )
