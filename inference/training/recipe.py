"""Everything that makes a detector apart from its images, checked before any work is done."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from pydantic import ValidationError

from inference.detectors import detector_class
from inference.detectors.backbones import Backbone
from inference.detectors.base import Detector, Settings
from inference.detectors.trained import TrainedDetector, Training
from inference.engine import choose_device
from inference.training.images import Images, SpooledImages, TensorImages, groups, to_batch
from inference.training.observing import Observer
from inference.training.report import Report
from inference.weights import load_backbone_weights
from ingest.preprocess import Preprocessing

Profile = Literal["quick", "paper"]


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
