"""A detector that knows nothing but how red a picture is, for tests of what happens around detectors."""

from typing import Any, ClassVar

import torch
from torch import Tensor

from inference.detectors.base import Detection, Detector, Progress, Settings, TrainingImages


class FlatSettings(Settings):
    broken: bool = False


class Flat(Detector):
    name: ClassVar[str] = "flat"
    paper: ClassVar[str] = "none"
    pixel_maps: ClassVar[bool] = False
    settings_class: ClassVar[type[Settings]] = FlatSettings
    settings: FlatSettings
    fitted: ClassVar[list[int]] = []

    def __init__(self, settings: Any = None) -> None:
        super().__init__()
        self.settings = settings or FlatSettings()
        self.register_buffer("seen", torch.zeros(1))

    def fit(self, images: TrainingImages, progress: Progress) -> None:
        type(self).fitted.append(len(images))
        for batch in images.stream():
            self.seen += len(batch)
            progress(int(self.seen), 0)

    def forward(self, images: Tensor) -> Detection:
        scores = (images[:, 0] - images[:, 1]).mean(dim=(1, 2))
        if self.settings.broken:
            scores = scores * torch.nan
        return Detection(maps=scores.view(-1, 1, 1), scores=scores)
