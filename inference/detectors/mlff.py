"""Fusion network: texture and meaning of backbone features, trained to tell good images from spoiled ones.

Tang, Zuo, Wang, Zhang, Wang: Image anomaly detection algorithm using multi-level feature fusion network. Journal of
National University of Defense Technology 47(2), 2025, 173-182. What the paper leaves open is settled in
docs/decisions/fusion-network.md.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, Self, cast

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from inference.detectors.backbones import Backbone, BackboneName
from inference.detectors.base import Detection, Progress, Settings, TrainingImages, seeded
from inference.detectors.calibrated import SelfCalibrated
from inference.detectors.convolutions import Merge, conv_norm
from inference.detectors.features import FrozenFeatures
from inference.detectors.fusion_losses import FusionLoss, distance
from inference.detectors.maps import MapMaker
from inference.detectors.normality import CrossFitted, Distances, Normalities
from inference.detectors.pseudo_anomalies import Kind
from inference.detectors.pseudo_samples import FrozenPseudoSamples, PseudoSamples
from inference.detectors.texture import PyramidTexture, TextureEnhancement, Window
from inference.detectors.trained import Samples, TrainedDetector, TrainedSettings, Training
from inference.errors import InferenceError


class MlffSettings(TrainedSettings):
    """Hyper-parameters of the fusion network; the defaults are for two cores, `paper_profile` is the paper's."""

    backbone: BackboneName = "resnet18"
    """Network the features come from."""
    layers: tuple[str, str, str] = ("layer1", "layer2", "layer3")
    """Tapped nodes, from fine to coarse: texture from the first two, meaning from the last."""
    normalise: Literal["none", "cells"] = "cells"
    """What the features are freed of first: nothing, as in the paper; or mean and covariance of all channels at each
    cell. Then the distances to normal of the three taps are added to the learned score, which so begins with them."""
    shrinkage: Annotated[float, Field(gt=0)] = 0.05
    """Share of the mean variance added to each variance, for `cells`."""
    freeze_backbone: bool = True
    """Leave the backbone as it is. The paper trains it along."""
    width: Annotated[int, Field(ge=8, multiple_of=4)] = 32
    """C_t, channels of the fused features and of everything on the way to them."""
    self_calibration: bool = True
    """Widen the view of the coarse features by a self-calibrated convolution (table 4: SC)."""
    texture: bool = True
    """Describe the texture of the fine features (table 4: STL)."""
    score_loss: bool = True
    """Learn the score and constrain it by eq. (5) (table 4); else the score is the distance to the centre."""
    consistency: bool = True
    """Constrain scores to be as far apart as features, eqs. (6) and (7) (table 4)."""
    levels: Annotated[int, Field(ge=2)] = 128
    """Levels of likeness in a map."""
    pair_levels: Annotated[int, Field(ge=2)] = 8
    """Levels of likeness in a region, whose pairs are counted."""
    scales: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)] = (1, 2, 4, 8)
    """Regions along one side of the map, for each branch of the pyramid."""
    window: Window = "code"
    """Which pixels belong to a level: as STLNet's authors run it, or as eq. (1) is printed."""
    repeat: Annotated[int, Field(ge=1)] = 1
    """How often each good image comes in an epoch."""
    least_samples: Annotated[int, Field(ge=1)] = 320
    """Samples of an epoch at least: few images are repeated more often."""
    ratio: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Share of the samples with a made-up defect (table 3)."""
    kinds: Annotated[tuple[Kind, ...], Field(min_length=1)] = ("confetti", "cutpaste")
    """Of made-up defects, equally likely."""
    negatives: bool = True
    """Make half of the defects in the image's negative, so that confetti, which only darkens, brightens as well."""
    redraw: bool = False
    """Make up other defects in each epoch; else those of the first, whose features in a frozen backbone are kept."""
    weights: tuple[Annotated[float, Field(ge=0)], Annotated[float, Field(ge=0)], Annotated[float, Field(ge=0)]] = (
        1.0,
        1.0,
        1.0,
    )
    """alpha, beta, xi of eq. (8): features, scores, consistency."""
    gamma: float = 2.5
    """Largest score of a normal pixel that costs nothing."""
    margin: Annotated[float, Field(gt=0)] = 5.0
    """lambda: how far anomalous scores have to lie above normal ones."""
    patch: Annotated[int, Field(ge=1)] = 4
    """Edge of the patches compared for consistency, in cells of the map."""
    epochs: Annotated[int, Field(ge=1)] = 5
    """Passes over the repeated training set."""
    batch: Annotated[int, Field(ge=1)] = 16
    """Samples per gradient step."""
    learning_rate: Annotated[float, Field(gt=0)] = 1e-2
    """Of the first step."""
    decay: Annotated[float, Field(gt=0, le=1)] = 0.86
    """Factor of the learning rate from epoch to epoch."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Nesterov's."""
    weight_decay: Annotated[float, Field(ge=0)] = 3e-5
    """L2 penalty."""
    sigma: Annotated[float, Field(ge=0)] = 0.0
    """Standard deviation of the map's smoothing, in pixels of the input; 0: none."""

    paper_profile: ClassVar[Mapping[str, Any]] = {
        "backbone": "resnet50",
        "normalise": "none",
        "freeze_backbone": False,
        "width": 256,
        "repeat": 10,
        "least_samples": 1,
        "redraw": True,
        "negatives": False,
        "epochs": 200,
        "batch": 32,
        "learning_rate": 1e-3,
        "decay": 0.985,
    }

    @model_validator(mode="after")
    def _normality_stands_still(self) -> Self:
        if self.normalise == "cells" and not self.freeze_backbone:
            raise ValueError(
                "a backbone that learns has no fixed normal: set normalise=none with freeze_backbone=false"
            )
        return self


class FusionNetwork(nn.Module):
    """Features of three taps to fused features of the finest one's grid and their score (figure 1).

    Args:
        channels: of the taps, from fine to coarse.
        settings: which parts there are, and how wide.
    """

    def __init__(self, channels: Sequence[int], settings: MlffSettings) -> None:
        super().__init__()
        fine, middle, coarse = channels
        width = settings.width
        ends = [fine, middle, coarse]
        self.texture: nn.ModuleDict | None = None
        if settings.texture:
            self.texture = nn.ModuleDict(
                {
                    "low": Merge([fine, middle], width),
                    "enhance": TextureEnhancement(width, levels=settings.levels, window=settings.window),
                    "pyramid": PyramidTexture(
                        2 * width, width, settings.scales, levels=settings.pair_levels, window=settings.window
                    ),
                }
            )
            ends[:2] = [width] * 3
        self.meaning: nn.Module | None = None
        if settings.self_calibration:
            self.meaning = nn.Sequential(conv_norm(coarse, width), nn.ReLU(), SelfCalibrated(width))
            ends[-1] = width
        self.fuse = Merge(ends, width)
        self.score = nn.Conv2d(width, 1, 1) if settings.score_loss else None

    def forward(self, taps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Fused features psi `[B, C_t, h, w]` and their scores `[B, h, w]`: eq. (9), or the distance of eq. (3)."""
        # Kept features come in another layout than the backbone's, which is the faster one, and rounds differently.
        fine, middle, coarse = (tap.contiguous(memory_format=torch.channels_last) for tap in taps)
        low = [fine, middle]
        if self.texture is not None:
            x = self.texture["low"](low)
            enhanced = self.texture["enhance"](x)
            low = [self.texture["pyramid"](torch.cat([enhanced, x], dim=1)), enhanced, x]
        high = coarse if self.meaning is None else self.meaning(coarse)
        fused = self.fuse([*low, high])
        return fused, distance(fused) if self.score is None else self.score(fused).squeeze(1)


class Mlff(TrainedDetector):
    """The detector: one pass of the backbone, one of the fusion network."""

    name: ClassVar[str] = "mlff"
    paper: ClassVar[str] = "Tang et al. 2025, Journal of National University of Defense Technology 47(2)"
    settings_class: ClassVar[type[Settings]] = MlffSettings
    settings: MlffSettings

    def __init__(self, settings: MlffSettings | None = None) -> None:
        super().__init__()
        self.settings = settings = settings or MlffSettings()
        self.backbone = Backbone(settings.backbone, settings.layers, trainable=not settings.freeze_backbone)
        width, height = settings.image_size
        shapes = self.backbone.shapes(width, height)
        self.grid = shapes[0][1:]
        with seeded(settings.seed):
            self.network = FusionNetwork([channels for channels, _, _ in shapes], settings)
        self.criterion = FusionLoss(
            weights=(
                settings.weights[0],
                settings.weights[1] * settings.score_loss,
                settings.weights[2] * settings.consistency,
            ),
            gamma=settings.gamma,
            margin=settings.margin,
            patch=settings.patch,
        )
        cells = settings.normalise == "cells"
        self.normality = Normalities(shapes, shrinkage=settings.shrinkage) if cells else None
        self.distances = Distances(len(shapes)) if cells else None
        self._unseen: CrossFitted | None = None  # while training
        self._keeps_features = settings.freeze_backbone and not settings.redraw
        self.maps = MapMaker(self.grid, (height, width), sigma=settings.sigma, interpolation="bilinear")

    def fit(self, images: TrainingImages, progress: Progress, *, training: Training | None = None) -> None:
        """Train; raises what every training raises."""
        try:
            super().fit(images, progress, training=training)
        finally:
            self._unseen = None  # several times the model's memory

    def samples(self, images: TrainingImages, training: Training, progress: Progress) -> Samples:
        """Spoiled and good images; or their features, where these stay the same in all epochs."""
        settings = self.settings
        if self.normality is not None:
            good = FrozenFeatures(
                self.backbone,
                count=len(images),
                take=images.take,
                fingerprint=images.fingerprint,
                size=settings.image_size,
                folder=training.features,
                room=training.features_bytes,
                progress=progress,
            )
            self._learn_normality(good)
        samples = PseudoSamples(
            images,
            repeat=max(settings.repeat, -(-settings.least_samples // len(images))),
            ratio=settings.ratio,
            kinds=settings.kinds,
            grid=self.grid,
            seed=settings.seed,
            redraw=settings.redraw,
            negatives=settings.negatives,
        )
        if not self._keeps_features:
            return _Numbered(samples, len(images))
        frozen = FrozenPseudoSamples(
            samples, self.backbone, size=settings.image_size, training=training, progress=progress
        )
        return _Numbered(frozen, len(images))

    def optimizer(self) -> torch.optim.Optimizer:
        """Stochastic gradient descent."""
        settings = self.settings
        return torch.optim.SGD(
            self.trainable(),
            lr=settings.learning_rate,
            momentum=settings.momentum,
            nesterov=settings.momentum > 0,
            weight_decay=settings.weight_decay,
        )

    def rate(self, done: float) -> float:
        """Falls from epoch to epoch; a training cut short by its budget falls as far, in fewer steps."""
        return self.settings.decay ** int(done * self.settings.epochs + 1e-9)

    def loss(self, batch: tuple[Tensor, ...], generator: torch.Generator) -> Tensor:
        """Eq. (8) of taps, or images, and masks."""
        *given, mask, numbers = batch
        taps = given if self._keeps_features else self.backbone(given[0])
        if self._unseen is None:
            fused, scores = self.network(taps)
        else:
            fused, scores = self._scored(self._unseen.deviations(taps, numbers))
        return self.criterion(fused, scores, mask, generator)

    def forward(self, images: Tensor) -> Detection:
        """Judge a batch; the image's score is its largest pixel's.

        Raises:
            InferenceError: the images are not of the size the model was made for.
        """
        width, height = self.settings.image_size
        if images.shape[-2:] != (height, width):
            raise InferenceError(f"images are {images.shape[-1]}x{images.shape[-2]}, the model's are {width}x{height}")
        taps = self.backbone(images)
        _, scores = self.network(taps) if self.normality is None else self._scored(self.normality(taps))
        maps = self.maps(scores.float())
        return Detection(maps=maps, scores=maps.amax(dim=(1, 2)))

    def _learn_normality(self, good: FrozenFeatures) -> None:
        if self.normality is not None and self.distances is not None:
            self._unseen = CrossFitted(self.normality, good.batches, len(good))
            numbers = torch.arange(len(good))
            parts = zip(good.batches(), torch.split(numbers, good.batch), strict=True)
            self.distances.fit(self._unseen.deviations(taps, part) for taps, part in parts)

    def _scored(self, deviations: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Fused features and scores of deviations: what the network adds to the distance from normal."""
        fused, scores = self.network(deviations)
        return fused, scores + cast("Distances", self.distances)(deviations)


class _Numbered:
    """Samples, with the number of the good image each comes from."""

    def __init__(self, samples: Samples, images: int) -> None:
        self._samples, self._images = samples, images

    def __len__(self) -> int:
        return len(self._samples)

    def take(self, numbers: Sequence[int], epoch: int) -> tuple[Tensor, ...]:
        """The samples of these numbers."""
        return *self._samples.take(numbers, epoch), torch.tensor(numbers) % self._images
