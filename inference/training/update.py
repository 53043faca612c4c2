"""From a sealed bundle and more good images to the next version of the model, without the images it was fitted on."""

import time
from collections.abc import Iterable
from hashlib import sha256
from typing import Protocol, cast, runtime_checkable

import numpy as np
from torch import Tensor

from inference.calibration import Calibration
from inference.detectors.base import Detector, Progress
from inference.engine import choose_device, load_detector, save_detector
from inference.errors import DataError, EngineError
from inference.false_alarms import USUAL, FalseAlarms
from inference.training.datasets import good_images
from inference.training.fit import hold_out, references
from inference.training.images import Images, groups, to_batch
from inference.training.observing import Observer
from inference.training.recipe import Recipe
from inference.training.report import Report, silent
from ingest.preprocess import Preprocessing
from storage.models import Bundle, Registry

LEARNED = "learned"
"""Key of the metrics: fingerprints of all the images a model has learned from, oldest first."""
LEARNED_ALERTS = "learned_alerts"
"""Key of the metrics: ids of all the alerts a model has learned from, oldest first (`inference.training.learn`)."""
LEARNING_SINCE = "learning_since"
"""Key of the metrics: when the model was fitted that all its learning began with, UTC, ISO 8601."""


@runtime_checkable
class Updatable(Protocol):
    """A fitted detector that can learn from more images than those it was fitted on."""

    def update(
        self,
        images: Iterable[Tensor],
        *,
        half_life: float | None = None,
        n_train: int = 0,
        progress: Progress | None = None,
    ) -> None:
        """Learn from batches `[B, 3, H, W]`, oldest first, as `inference.detectors.padim.Padim.update` says."""
        ...


def open_learner(bundle: Bundle, *, device: str, batch: int) -> tuple[Recipe, Detector]:
    """Load a model that is to learn on, and the recipe to judge with it.

    Raises:
        EngineError: no such device, or the detector cannot learn from more images.
        IngestError: its preprocessing is none of this version.
        storage.errors.StorageError: the bundle cannot be read.
    """
    manifest, chosen = bundle.manifest, choose_device(device)
    detector = load_detector(bundle).to(chosen)
    if not isinstance(detector, Updatable):
        raise EngineError(f"{bundle.ref} is {manifest.detector}, which cannot learn on: fit it anew on all good images")
    preprocessing = Preprocessing.recorded(manifest.preprocessing, ref=bundle.ref)
    made = Recipe(manifest.detector, detector.settings, preprocessing, weights=None, device=chosen, batch=batch)
    return made, detector


def learned_alerts(bundle: Bundle) -> list[str]:
    """Alerts a model has learned from."""
    return list(bundle.manifest.metrics.get(LEARNED_ALERTS, []))


def learning_since(bundle: Bundle) -> str:
    """When the model was fitted whose alerts it may learn from, UTC, ISO 8601."""
    return str(bundle.manifest.metrics.get(LEARNING_SINCE, bundle.manifest.created))


def learn_on(
    made: Recipe, detector: Detector, images: Images, *, half_life: float | None, n_train: int, report: Report
) -> None:
    """Let a detector of `open_learner` learn from more good images, oldest first; arguments as `update_model` has them.

    Raises:
        FitError: nothing can be learned from them.
    """
    cast("Updatable", detector).update(
        (to_batch(group).to(made.device) for group in groups(images, made.batch)),
        half_life=half_life,
        n_train=n_train,
        progress=lambda done, _total, note="", /: report("updating", done, len(images), note),
    )


def update_model(
    bundle: Bundle,
    data: str,
    *,
    half_life: float | None = None,
    device: str = "auto",
    batch: int = 8,
    every: int = 1,
    limit: int = 2000,
    asked: FalseAlarms = USUAL,
    fps: float | None = None,
    report: Report = silent,
) -> Bundle:
    """Let a model learn from more good images, calibrate it anew, and write it as a new version that is not promoted.

    Scores of the old model say nothing about the new one, so it is calibrated on the new images alone: those of
    `calibration/good` when there are any, else a fifth that is held out; of a video, its end.

    Args:
        bundle: the model; it stays as it is.
        data: a folder, a video, or any other source of good images the model has not seen, in order of age.
        half_life: images after which an image weighs half as much; None: all weigh the same.
        device: `auto`, `cpu`, `cuda`, …
        batch: images taken in at once.
        every: of a source, keep each `every`-th frame.
        limit: of a source, keep at most so many frames.
        asked: false alarms that are accepted. The manifest's metrics say how many of the new images the model would
            have rejected at that threshold before it learned from them (`rejected_before`, of `judged_before`): a
            defective one among them would be one of these.
        fps: of a source, its frames a second; None: as the source says.
        report: told how far the work is.

    Raises:
        DataError: the images cannot be used, or are those the model was fitted on.
        EngineError: the detector cannot learn from more images.
        FitError: nothing can be learned from them.
        ValueError: false alarms are asked per time, and neither the model nor `fps` says how long an image takes.
        storage.errors.StorageError: the bundle cannot be read or written.
    """
    started = time.monotonic()
    manifest = bundle.manifest
    made, detector = open_learner(bundle, device=device, batch=batch)
    preprocessing = made.preprocessing
    good = good_images(data, preprocessing, every=every, limit=limit, fps=fps)
    learned = [*manifest.metrics.get(LEARNED, [manifest.data_fingerprint]), good.fingerprint]
    if good.fingerprint in learned[:-1]:
        raise DataError(f"{data} holds the very images {bundle.ref} has learned from: name images it has not seen")
    train, held_out = (good.train, good.calibration) if good.calibration is not None else hold_out(made, good)
    stored = bundle.calibration()
    standing = None if stored is None else Calibration.recorded(stored, ref=bundle.ref)
    smoothing = standing.smoothing if standing is not None and good.video else 1
    before: dict[str, int] = {}
    if standing is not None:
        limit_before = standing.limit(asked, fps=fps).threshold
        seen = Observer(video=good.video, smoothing=smoothing)
        for part in (train, held_out):
            made.observe(detector, part, seen, "judging as before", report)
        rejected = np.count_nonzero(seen.scores > limit_before)
        before = {"rejected_before": int(rejected), "judged_before": seen.scores.size}
    learn_on(made, detector, train, half_life=half_life, n_train=manifest.n_train, report=report)
    seen = Observer(video=good.video, smoothing=smoothing)
    made.observe(detector, held_out, seen, "calibrating", report)
    calibration = seen.calibration(frame_s=good.frame_s)
    folder = bundle.path.resolve().parent
    return save_detector(
        Registry(folder.parent),
        folder.name,
        detector,
        preprocessing=preprocessing,
        calibration=calibration,
        reference=references(held_out),
        data_fingerprint=sha256("\n".join(learned).encode()).hexdigest(),
        n_train=manifest.n_train + len(train),
        metrics={
            "updated_from": manifest.version,
            "half_life": half_life,
            "update_seconds": round(time.monotonic() - started, 3),
            "good_score_median": float(np.median(calibration.scores)),
            "good_score_max": calibration.scores[-1],
            **before,
            LEARNED: learned,
            LEARNED_ALERTS: learned_alerts(bundle),
            LEARNING_SINCE: learning_since(bundle),
        },
    )
