"""MS-Flow: the likelihood of backbone features under a flow that works on several scales at once.

Multi-scale normalizing flow for image anomaly detection. Acta Automatica Sinica 2024, doi 10.16383/j.aas.c230476.
A frozen network gives features of one grid; a flow (`inference.detectors.flows`) learns to map those of good images to
a standard normal. What it maps far from the origin it has not seen. Choices the paper leaves open, and the grounds for
ours, are in docs/decisions/msflow-architecture.md.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, cast

import torch
from pydantic import Field, model_validator
from torch import Tensor

from inference.detectors.backbones import Backbone, BackboneName
from inference.detectors.base import Detection, Progress, Settings, TrainingImages, seeded
from inference.detectors.features import FrozenFeatures
from inference.detectors.flows import ChainFlow
from inference.detectors.maps import Interpolation, MapMaker
from inference.detectors.normality import Normality
from inference.detectors.trained import Samples, TrainedDetector, TrainedSettings, Training
from inference.errors import InferenceError

_NODES: dict[str, str] = {
    "resnet18": "layer3",
    "resnet50": "layer3",
    "wide_resnet50_2": "layer3",
    "efficientnet_b5": "features.6",  # 304 channels, stride 32: the sizes of table 6
    "efficientnet_b7": "features.6",
    "swin_b": "features.5",
}
_LEAST = 0.05  # of the mean deviation: less would make noise of a silent channel an anomaly


class MsflowSettings(TrainedSettings):
    """Hyper-parameters of MS-Flow; the defaults are for two cores, `paper_profile` is the paper's headline."""

    backbone: BackboneName = "resnet18"
    """Network the features come from."""
    node: str = ""
    """Tapped node, as `create_feature_extractor` names it; empty: the one usual for the backbone."""
    subfeatures: Annotated[int, Field(ge=2)] = 4
    """s, groups the channels are cut into (table 6)."""
    kernels: Annotated[tuple[Literal[1, 3, 5, 7], ...], Field(min_length=1)] = (3, 3, 3, 5)
    """Edge of the window in each block, in cells; their number is K."""
    hidden: Annotated[int, Field(ge=1)] = 64
    """Channels inside a level of a block."""
    clamp: Annotated[float, Field(gt=0)] = 3.0
    """Bound of the logarithm of a scale."""
    normalise: Literal["none", "channels", "cells"] = "cells"
    """What the features are freed of before the flow: nothing, as in the paper; mean and deviation of each channel; or
    mean and covariance of all channels at each cell, a first, invertible step that is computed and not trained."""
    shrinkage: Annotated[float, Field(gt=0)] = 0.05
    """Share of the mean variance added to each variance, for `cells`."""
    noise: Annotated[float, Field(ge=0)] = 0.5
    """Deviation of the noise added to (normalised) features in training: without it a small set is learned by heart,
    and what good images have in common is lost among what sets them apart. Not in the paper."""
    epochs: Annotated[int, Field(ge=1)] = 15
    """Passes over the training set."""
    batch: Annotated[int, Field(ge=1)] = 16
    """Images per gradient step."""
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    """Of the first step."""
    schedule: Literal["constant", "cosine"] = "cosine"
    """Course of the learning rate; `cosine` falls to zero."""
    clip: Annotated[float, Field(gt=0)] | None = 1.0
    """Largest norm of the gradient; None: as it comes."""
    weight_decay: Annotated[float, Field(ge=0)] = 1e-5
    """L2 penalty of Adam."""
    adam_epsilon: Annotated[float, Field(gt=0)] = 1e-8
    """Added to Adam's denominator; the paper profile's exceeds most gradients of a loss per dimension: slow, steady."""
    score: Literal["mean", "max", "top"] = "top"
    """Image score: mean over all cells, the largest cell, or the mean of the `top_share` largest."""
    top_share: Annotated[float, Field(gt=0, le=1)] = 0.03
    """Share of the cells that count, for `top`; at least one does."""
    sigma: Annotated[float, Field(ge=0)] = 0.0
    """Standard deviation of the map's smoothing, in pixels of the input; 0: none."""
    interpolation: Interpolation = "bilinear"
    """How the map is brought to the size of the image."""

    paper_profile: ClassVar[Mapping[str, Any]] = {
        "backbone": "efficientnet_b5",
        "image_size": (768, 768),
        "subfeatures": 4,
        "kernels": (3, 3, 3, 5),
        "hidden": 1024,
        "normalise": "none",
        "noise": 0.0,
        "epochs": 240,
        "batch": 16,
        "learning_rate": 2e-4,
        "schedule": "constant",
        "clip": 1.0,
        "weight_decay": 1e-5,
        "adam_epsilon": 1e-4,
        "score": "mean",
    }

    @model_validator(mode="before")
    @classmethod
    def _name_the_node(cls, given: Any) -> Any:
        """Fill in the backbone's node, so that a saved model names its own."""
        if not isinstance(given, dict) or given.get("node"):
            return given
        backbone = given.get("backbone", cls.model_fields["backbone"].default)
        return {**given, "node": _NODES.get(backbone, "")}


class Msflow(TrainedDetector):
    """The detector: one pass of the backbone, one of the flow.

    Attributes:
        backbone: frozen.
        head: the flow; `head(features)` gives z and `log |det|`.
        mean: of each channel of the training features, `[C, 1, 1]`; zeros unless `normalise` is `channels`.
        deviation: likewise; ones unless `normalise` is `channels`.
    """

    name: ClassVar[str] = "msflow"
    paper: ClassVar[str] = "MS-Flow, Acta Automatica Sinica 2024, doi 10.16383/j.aas.c230476"
    settings_class: ClassVar[type[Settings]] = MsflowSettings
    settings: MsflowSettings
    mean: Tensor
    deviation: Tensor

    def __init__(self, settings: MsflowSettings | None = None) -> None:
        super().__init__()
        self.settings = settings = settings or MsflowSettings()
        self.backbone = Backbone(settings.backbone, (settings.node,))
        width, height = settings.image_size
        ((channels, *grid),) = self.backbone.shapes(width, height)
        with seeded(settings.seed):
            self.head = ChainFlow(
                channels,
                subfeatures=settings.subfeatures,
                hidden=settings.hidden,
                kernels=settings.kernels,
                clamp=settings.clamp,
            )
        self.register_buffer("mean", torch.zeros(channels, 1, 1))
        self.register_buffer("deviation", torch.ones(channels, 1, 1))
        shape = (channels, grid[0], grid[1])
        cells = settings.normalise == "cells"
        self.normality = Normality(shape, shrinkage=settings.shrinkage) if cells else None
        self.maps = MapMaker(
            (grid[0], grid[1]), (height, width), sigma=settings.sigma, interpolation=settings.interpolation
        )

    def samples(self, images: TrainingImages, training: Training, progress: Progress) -> Samples:
        """Features of the images, and their mean and deviation if wanted."""
        features = FrozenFeatures(
            self.backbone,
            count=len(images),
            take=images.take,
            fingerprint=images.fingerprint,
            size=self.settings.image_size,
            folder=training.features,
            room=training.features_bytes,
            progress=progress,
        )
        if self.settings.normalise == "channels":
            self._take_statistics(features)
        if self.normality is not None:
            self.normality.fit(self.normality.gather(tap for (tap,) in features.batches()))
        return _OneTap(features)

    def optimizer(self) -> torch.optim.Optimizer:
        """Adam over the flow."""
        return torch.optim.Adam(
            self.trainable(),
            lr=self.settings.learning_rate,
            eps=self.settings.adam_epsilon,
            weight_decay=self.settings.weight_decay,
        )

    def rate(self, done: float) -> float:
        """Factor of the learning rate after this share of the training."""
        return 0.5 * (1 + math.cos(math.pi * done)) if self.settings.schedule == "cosine" else 1.0

    def loss(self, batch: tuple[Tensor, ...], generator: torch.Generator) -> Tensor:
        """Negative log-likelihood of features `[B, C, h, w]` per dimension, without its constant."""
        features = self.normalised(batch[0])
        if self.settings.noise:
            noise = torch.randn(features.shape, generator=generator)
            features = features + self.settings.noise * noise.to(features.device)
        z, log_det = self.head(features)
        likelihoods: Tensor = log_det - 0.5 * z.square().sum(dim=(1, 2, 3))
        return -likelihoods.mean() / features[0].numel()

    def forward(self, images: Tensor) -> Detection:
        """Judge a batch; the map is z²/2, averaged over the channels of a cell.

        Raises:
            InferenceError: the images are not of the size the model was made for.
        """
        width, height = self.settings.image_size
        if images.shape[-2:] != (height, width):
            raise InferenceError(f"images are {images.shape[-1]}x{images.shape[-2]}, the model's are {width}x{height}")
        z, _ = self.head(self.normalised(self.backbone(images)[0]))
        energies = 0.5 * z.square().mean(dim=1)  # [B, h, w]
        return Detection(maps=self.maps(energies), scores=self._score(energies.flatten(1)))

    def _score(self, cells: Tensor) -> Tensor:
        """Scores `[B]` of energies `[B, cells]`."""
        if self.settings.score == "mean":
            return cells.mean(1)
        share = 0.0 if self.settings.score == "max" else self.settings.top_share
        largest: Tensor = cells.topk(max(1, round(share * cells.shape[1])), dim=1).values
        return largest.mean(1)

    def normalised(self, features: Tensor) -> Tensor:
        """What the flow is given of features `[B, C, h, w]`."""
        if self.normality is not None:
            return cast("Tensor", self.normality(features))
        return (features.float() - self.mean) / self.deviation

    @torch.no_grad()
    def _take_statistics(self, features: FrozenFeatures) -> None:
        """Mean and deviation of each channel, over all cells, in one pass; a channel that hardly varies stays small."""
        sums = torch.zeros(2, self.mean.numel(), dtype=torch.float64, device=self.mean.device)
        for (tap,) in features.batches():
            values = tap.double()
            sums += torch.stack([values.sum(dim=(0, 2, 3)), values.square().sum(dim=(0, 2, 3))])
        _, height, width = features.shapes[0]
        mean, square = sums / (len(features) * height * width)
        deviation = (square - mean.square()).clamp_min(0).sqrt()
        self.mean.copy_(mean.view(-1, 1, 1))
        self.deviation.copy_(deviation.clamp_min(_LEAST * float(deviation.mean()) + 1e-6).view(-1, 1, 1))


class _OneTap:
    """Features as the samples of an epoch."""

    def __init__(self, features: FrozenFeatures) -> None:
        self._features = features

    def __len__(self) -> int:
        return len(self._features)

    def take(self, numbers: Sequence[int], epoch: int) -> tuple[Tensor, ...]:  # noqa: ARG002 - every epoch the same
        return tuple(self._features.take(numbers))
