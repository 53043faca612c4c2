"""From good images to a sealed, calibrated bundle."""

import copy
import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import structlog

from inference.calibration import Calibration
from inference.detectors.base import Detector
from inference.detectors.trained import TrainedDetector
from inference.engine import save_detector
from inference.errors import FitError
from inference.training.datasets import GoodImages, good_images
from inference.training.images import Images
from inference.training.keeping import checkpoint_file, checkpointing
from inference.training.observing import Observer, refuse_smoothing
from inference.training.recipe import Recipe
from inference.training.report import Report, silent
from ingest.preprocess import RGB
from storage.models import Bundle, Registry

FOLDS = 5
"""Of cross calibration: each score comes from a model that saw four fifths of the images."""
HELD_OUT = 0.2
"""Share of the images held out when fitting five times more would take too long, and of every video."""
REFERENCES = 16
"""Calibration images kept in the bundle, for the gate that compares engines."""

log = structlog.get_logger()


def fit_model(
    made: Recipe,
    data: str,
    out: Path,
    *,
    every: int = 1,
    limit: int = 2000,
    fps: float | None = None,
    smoothing: int = 1,
    resume: bool = False,
    report: Report = silent,
) -> Bundle:
    """Fit, calibrate and write a new version of a model.

    Calibration uses `calibration/good` when there is one. Else images are scored by models fitted without them (five
    folds), or, for detectors that train for epochs and for videos, a fifth is held out.

    A detector that trains for epochs keeps its state in the model's folder until the bundle is written.

    Args:
        made: the detector and its settings.
        data: a folder, a video, or any other source of good images.
        out: `MODELS/NAME`.
        every: of a source, keep each `every`-th frame.
        limit: of a source, keep at most so many frames.
        fps: of a source, its frames a second; None: as the source says.
        smoothing: frames over which maps are averaged before they are scored; above 1 for a source alone.
        resume: go on with an interrupted training of this model.
        report: told how far the work is.

    Raises:
        DataError: the images cannot be used.
        WeightsError: the backbone's weights cannot be used.
        FitError: nothing can be learned from them, or the interrupted training was another.
        storage.errors.StorageError: the bundle cannot be written.
    """
    started = time.monotonic()
    registry = Registry(out.parent)
    registry.versions(out.name)  # a name that cannot be written is refused before the work, not after it
    empty = made.build()  # weights that are missing are, too
    good = good_images(data, made.preprocessing, every=every, limit=limit, fps=fps)
    refuse_smoothing(smoothing, video=good.video)
    checkpoint = checkpoint_file(out, made.detector)
    trained = isinstance(empty, TrainedDetector)
    if trained:
        made = replace(made, training=replace(made.training, checkpoint=checkpoint))
    with checkpointing(checkpoint, resume=resume) if trained else nullcontext():
        detector, calibration, calibrated_on, n_train = _learn(made, empty, good, smoothing, report)
        seconds = time.monotonic() - started
        log.debug("fitted", detector=made.detector, images=n_train, seconds=round(seconds, 1))
        return save_detector(
            registry,
            out.name,
            detector,
            preprocessing=made.preprocessing,
            calibration=calibration,
            reference=references(calibrated_on),
            data_fingerprint=good.fingerprint,
            n_train=n_train,
            metrics={
                "fit_seconds": round(seconds, 3),
                "good_score_median": float(np.median(calibration.scores)),
                "good_score_max": calibration.scores[-1],
            },
        )


def _learn(
    made: Recipe, empty: Detector, good: GoodImages, smoothing: int, report: Report
) -> tuple[Detector, Calibration, Images, int]:
    """Fit, and score good images the scored model has not seen."""
    if good.calibration is not None:
        train, held_out = good.train, good.calibration
    elif good.video or isinstance(empty, TrainedDetector):
        train, held_out = hold_out(made, good)
    else:
        detector = made.fit(copy.deepcopy(empty), good.train, "fitting", report)
        return detector, _cross(made, empty, good.train, report), good.train, len(good.train)
    if isinstance(empty, TrainedDetector) and len(train) < empty.few:
        log.warning("few good images: the training will learn them by heart", images=len(train), advised=empty.few)
    detector = made.fit(empty, train, "fitting", report, f"{good.fingerprint} {made.settings.seed}")
    seen = Observer(video=good.video, smoothing=smoothing)
    made.observe(detector, held_out, seen, "calibrating", report)
    return detector, seen.calibration(frame_s=good.frame_s), held_out, len(train)


def hold_out(made: Recipe, good: GoodImages) -> tuple[Images, Images]:
    """Images to fit on, and a fifth of them that is kept from fitting.

    Raises:
        FitError: there are fewer than three.
    """
    n = len(good.train)
    held = max(1, round(HELD_OUT * n))
    # Of a video the end is held out in one stretch: the frames beside a random one show the same scene, so a model
    # fitted on them would know it, and its score would promise fewer false alarms than a new day brings.
    order = np.arange(n) if good.video else np.random.default_rng(made.settings.seed).permutation(n)
    if n - held < 2:
        raise FitError(f"{n} good images are too few to fit and calibrate on: add images, better fifty")
    kept, held_out = np.sort(order[: n - held]), np.sort(order[n - held :])
    return good.train.select(kept.tolist()), good.train.select(held_out.tolist())


def _cross(made: Recipe, empty: Detector, images: Images, report: Report) -> Calibration:
    """Each image's score from a model fitted without its fold.

    Folds are stretches of neighbours by name, because pictures of one part are often numbered in a row: spread over
    the folds, each would be known to the model that scores it.
    """
    n = len(images)
    folds = np.array_split(np.arange(n), min(FOLDS, n))
    if n - len(folds[0]) < 2:
        raise FitError(f"{n} good images are too few to fit and calibrate on: add images, better fifty")
    seen = Observer()
    for number, fold in enumerate(folds, 1):
        what = f"calibrating, fold {number} of {len(folds)}"
        rest = images.select(np.setdiff1d(np.arange(n), fold).tolist())
        detector = made.fit(copy.deepcopy(empty), rest, what, report)
        made.observe(detector, images.select(fold.tolist()), seen, what, report)
    return seen.calibration(method="cross")


def references(images: Images) -> dict[str, bytes]:
    """Up to 16 prepared pictures as PNG, spread evenly."""
    spread = np.unique(np.linspace(0, len(images) - 1, min(REFERENCES, len(images))).round().astype(int))
    chosen = images.select(spread.tolist())
    return {f"{number:02}.png": _png(picture) for number, picture in enumerate(chosen)}


def _png(picture: RGB) -> bytes:
    _, data = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    return data.tobytes()
