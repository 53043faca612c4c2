"""Detectors without a backbone that fit in no time: good, blind, broken and trained."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from inference.detectors.base import Detection, Detector, Progress, Settings, TrainingImages
from inference.detectors.pseudo_anomalies import Kind
from inference.detectors.trained import Samples, TrainedDetector, TrainedSettings, Training
from inference.errors import FitError


class Template(Detector):
    """Distance from the mean image; NaN until it is fitted."""

    name: ClassVar[str] = "template"
    paper: ClassVar[str] = "none"
    mean: Tensor

    def __init__(self, settings: Settings | None = None) -> None:
        super().__init__()
        self.settings = settings or Settings()
        width, height = self.settings.image_size
        self.register_buffer("mean", torch.full((3, height, width), torch.nan))

    def fit(self, images: TrainingImages, progress: Progress) -> None:
        self.mean.copy_(torch.cat(list(images.stream())).mean(0))
        progress(len(images), len(images))

    def forward(self, images: Tensor) -> Detection:
        maps = (images - self.mean).abs().mean(1)
        return Detection(maps=maps, scores=maps.amax(dim=(1, 2)))


class Blind(Template):
    """Looks at the upper left corner only, and has no maps."""

    name: ClassVar[str] = "blind"
    pixel_maps: ClassVar[bool] = False

    def forward(self, images: Tensor) -> Detection:
        scores = (images - self.mean)[:, :, :4, :4].abs().mean(dim=(1, 2, 3))
        return Detection(maps=scores[:, None, None], scores=scores)


class Fitless(Template):
    """Cannot judge before it is fitted, as a gallery without pictures."""

    name: ClassVar[str] = "fitless"

    def forward(self, images: Tensor) -> Detection:
        if bool(self.mean.isnan().any()):
            raise RuntimeError("an empty gallery")
        return super().forward(images)


class Broken(Template):
    name: ClassVar[str] = "broken"

    def fit(self, images: TrainingImages, progress: Progress) -> None:
        del images, progress
        raise ValueError("a hammer\nfell on it")


class Unlearned(Template):
    """Says NaN of everything."""

    name: ClassVar[str] = "unlearned"

    def fit(self, images: TrainingImages, progress: Progress) -> None:
        """Learn nothing."""


class Fussy(Template):
    name: ClassVar[str] = "fussy"

    def fit(self, images: TrainingImages, progress: Progress) -> None:
        del images, progress
        raise FitError("these images do not please")


class ShownSettings(TrainedSettings):
    epochs: int = 3
    batch: int = 4
    learning_rate: float = 0.1
    kinds: tuple[Kind, ...] = ("confetti", "cutpaste")
    paper_profile: ClassVar[Mapping[str, Any]] = {"epochs": 300}


class _Numbers:
    def __init__(self, images: TrainingImages) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def take(self, numbers: Sequence[int], epoch: int) -> tuple[Tensor, ...]:
        del epoch
        return (self.images.take(numbers),)


class Shown(TrainedDetector):
    """Trains its template by gradients, and says that it was shown confetti and CutPaste."""

    name: ClassVar[str] = "shown"
    paper: ClassVar[str] = "none"
    settings_class: ClassVar[type[Settings]] = ShownSettings
    settings: ShownSettings

    def __init__(self, settings: ShownSettings | None = None) -> None:
        super().__init__()
        self.settings = settings or ShownSettings()
        width, height = self.settings.image_size
        self.template = torch.nn.Parameter(torch.full((3, height, width), 0.5))

    def samples(self, images: TrainingImages, training: Training, progress: Progress) -> Samples:
        del training, progress
        return _Numbers(images)

    def optimizer(self) -> torch.optim.Optimizer:
        return torch.optim.SGD([self.template], lr=self.settings.learning_rate)

    def loss(self, batch: tuple[Tensor, ...], generator: torch.Generator) -> Tensor:
        del generator
        return (batch[0] - self.template).square().sum() / len(batch[0])

    def forward(self, images: Tensor) -> Detection:
        maps = (images - self.template).abs().mean(1)
        return Detection(maps=maps, scores=maps.amax(dim=(1, 2)))
