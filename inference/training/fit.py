"""From good images to a sealed, calibrated bundle."""

import copy
import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import structlog
import torch
from pydantic import ValidationError

from inference.calibration import Calibration
from inference.detectors import detector_class
from inference.detectors.backbones import Backbone
from inference.detectors.base import Detector, Settings
from inference.detectors.trained import TrainedDetector, Training
from inference.engine import choose_device, save_detector
from inference.errors import FitError
from inference.training.datasets import GoodImages, good_images
from inference.training.images import Images, SpooledImages, TensorImages, groups, to_batch
from inference.training.keeping import checkpoint_file, checkpointing
from inference.training.observing import Observer, refuse_smoothing
from inference.training.report import Report, silent
from inference.weights import load_backbone_weights
from ingest.preprocess import RGB, Preprocessing
from storage.models import Bundle, Registry

FOLDS = 5
"""Of cross calibration: each score comes from a model that saw four fifths of the images."""
HELD_OUT = 0.2
"""Share of the images held out when fitting five times more would take too long, and of every video."""
REFERENCES = 16
"""Calibration images kept in the bundle, for the gate that compares engines."""

Profile = Literal["quick", "paper"]

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that makes a detector, apart from its images.

    Attributes:
        detector: its name.
        settings: its hyper-parameters; its `image_size` is that of `preprocessing`.
        preprocessing: how pictures become its input.
        weights: backbone weights: a file, `random`, or None for the local store.
        device: torch device to fit on.
        batch: images taken in at once.
        training: how a detector that trains by gradients is trained.
    """

    detector: str
    settings: Settings
    preprocessing: Preprocessing
    weights: str | None
    device: torch.device
    batch: int = 8
    training: Training = field(default_factory=Training)

    def build(self) -> Detector:
        """Make the empty detector, with its backbone's weights.

        Raises:
            WeightsError: there are none, or they do not fit.
        """
        detector = detector_class(self.detector)(self.settings)
        for module in detector.modules():
            if isinstance(module, Backbone):
                load_backbone_weights(module, self.weights, seed=self.settings.seed)
        return detector.to(self.device)

    def fit(self, detector: Detector, images: Images, what: str, report: Report, fingerprint: str = "") -> Detector:
        """Let an empty detector learn.

        Args:
            detector: empty, with its backbone's weights.
            images: the good images; `fingerprint` names their content, for what may be kept of them on disk.
            what: said to `report`.
            report: told how far the work is.
            fingerprint: empty: nothing is kept on disk.
        """

        def progress(done: int, total: int, note: str = "", /) -> None:
            # A detector that streams does not know how many images will come; one that trains counts its epochs.
            report(what, done, total or len(images), note)

        trained = isinstance(detector, TrainedDetector)
        tensors = TensorImages(
            SpooledImages.copy(images) if trained else images,  # decoded once for all epochs
            fingerprint=f"{fingerprint} {len(images)} {self.preprocessing.model_dump_json()}",
            size=self.batch,
            seed=self.settings.seed,
            device=self.device,
        )
        if isinstance(detector, TrainedDetector):
            training = self.training if fingerprint else replace(self.training, features=None, checkpoint=None)
            detector.fit(tensors, progress, training=training)
        else:
            detector.fit(tensors, progress)
        return detector.eval()

    @torch.inference_mode()
    def observe(self, detector: Detector, images: Images, seen: Observer, what: str, report: Report) -> None:
        """Let a detector judge images, in their order, for `seen` to keep what it says."""
        done = 0
        for group in groups(images, self.batch):
            said = detector(to_batch(group).to(self.device))
            seen.add(group, said.scores.float().cpu().numpy(), said.maps.float().cpu().numpy())
            done += len(group)
            report(what, done, len(images))


def recipe(
    detector: str,
    options: Mapping[str, Any],
    *,
    preprocessing: Preprocessing | None = None,
    weights: str | None = None,
    seed: int = 0,
    device: str = "auto",
    batch: int = 8,
    profile: Profile | None = None,
    training: Training | None = None,
) -> Recipe:
    """Check what was asked for before any work is done.

    Args:
        detector: its name.
        options: hyper-parameters other than `image_size` and `seed`.
        preprocessing: how pictures become its input; None: resized to what the profile asks for.
        weights: a file, `random`, or None for the local store.
        seed: everything random derives from it.
        device: `auto`, `cpu`, `cuda`, …
        batch: images taken in at once.
        profile: `paper`: as published; `quick`: what two cores finish in minutes; None: quick on a CPU.
        training: how a detector that trains by gradients is trained.

    Raises:
        InferenceError: no such detector.
        EngineError: no such device.
        ValueError: one line naming the option that is wrong.
    """
    cls = detector_class(detector).settings_class
    chosen = choose_device(device)
    wanted = _profile(cls, chosen, profile)
    preprocessing = preprocessing or Preprocessing(size=wanted["image_size"])
    for name, mend in (("image_size", "--image-size"), ("seed", "--seed")):
        if name in options:
            raise ValueError(f"{name} has an option of its own: {mend}")
    try:
        settings = cls.model_validate({**wanted, **options, "image_size": preprocessing.size, "seed": seed})
    except ValidationError as exc:
        raise ValueError(_first_complaint(exc, cls, detector)) from exc
    return Recipe(detector, settings, preprocessing, weights, chosen, batch, training or Training())


def usual_size(detector: str, *, device: str = "auto", profile: Profile | None = None) -> tuple[int, int]:
    """Width and height of a profile's input, for whoever wants to choose all of the preprocessing but its size.

    Raises:
        InferenceError: no such detector.
        EngineError: no such device.
    """
    width, height = _profile(detector_class(detector).settings_class, choose_device(device), profile)["image_size"]
    return width, height


def _profile(cls: type[Settings], device: torch.device, profile: Profile | None) -> dict[str, Any]:
    """Settings of a profile, `image_size` among them in any case."""
    paper = (profile or default_profile(device)) == "paper"
    return {"image_size": cls.model_fields["image_size"].default, **(cls.paper_profile if paper else {})}


def default_profile(device: torch.device) -> Profile:
    """`quick` on a CPU, where the papers' settings would take days."""
    return "quick" if device.type == "cpu" else "paper"


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


def _first_complaint(error: ValidationError, cls: type[Settings], detector: str) -> str:
    first = error.errors()[0]
    name = ".".join(str(part) for part in first["loc"])
    known = ", ".join(field for field in cls.model_fields if field not in {"image_size", "seed"})
    if first["type"] == "extra_forbidden":
        return f"{detector} has no setting {name!r}: it has {known}"
    value = first["input"]
    given = f" {value!r}" if isinstance(value, str | int | float) else ""
    said = first["msg"].removeprefix("Value error, ")
    return f"{detector}'s setting {name or 'combination'}{given}: {said}"
