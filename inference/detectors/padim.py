"""PaDiM: a Gaussian of backbone features at every cell of the image.

Defard, Setkov, Loesch, Audigier: PaDiM: a Patch Distribution Modeling framework for anomaly detection and
localization. ICPR 2020 workshops, arXiv 2011.08785. The semi-orthogonal reduction is from Kim et al.:
Semi-orthogonal embedding for efficient unsupervised anomaly segmentation, arXiv 2105.14737.
"""

from collections.abc import Iterable, Iterator
from itertools import accumulate, pairwise
from typing import Annotated, Any, ClassVar, Literal

import structlog
import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor

from inference.detectors.backbones import Backbone, BackboneName
from inference.detectors.base import Detection, Detector, Progress, Settings, TrainingImages
from inference.detectors.gaussians import Gaussians, Moments
from inference.detectors.maps import Interpolation, MapMaker
from inference.errors import FitError, InferenceError

_RESNET = ("layer1", "layer2", "layer3")
_PAPER: dict[str, dict[str, Any]] = {
    "resnet18": {"layers": _RESNET, "dimensions": 100},
    "resnet50": {"layers": _RESNET, "dimensions": 550},  # not in the paper; as wide as wide_resnet50_2
    "wide_resnet50_2": {"layers": _RESNET, "dimensions": 550},
    # The paper's "layers 7, 20, 26" are the last blocks of stages 2, 4 and 5: 40 + 128 + 176 channels, all kept.
    "efficientnet_b5": {"layers": ("features.2", "features.4", "features.5"), "dimensions": None},
    # Not in the paper: the same places of larger networks.
    "efficientnet_b7": {"layers": ("features.2", "features.4", "features.5"), "dimensions": None},
    "swin_b": {"layers": ("features.1", "features.3", "features.5"), "dimensions": 550},
}
_FEW_IMAGES = 16
_BATCH = 8  # images taken in at once by an update

log = structlog.get_logger()


class PadimSettings(Settings):
    """Hyper-parameters of PaDiM; the defaults are the paper's for the chosen backbone."""

    backbone: BackboneName = "resnet18"
    """Network the features come from."""
    layers: Annotated[tuple[str, ...], Field(min_length=1)] = ()
    """Tapped nodes, as `create_feature_extractor` names them."""
    dimensions: Annotated[int, Field(ge=1)] | None = None
    """d, how many feature dimensions are kept; None: all."""
    reduction: Literal["random", "semi-orthogonal"] = "random"
    """`random` picks d channels; `semi-orthogonal` projects on d random orthonormal directions."""
    epsilon: Annotated[float, Field(ge=0)] = 0.01
    """Added to the diagonal of every covariance."""
    sigma: Annotated[float, Field(ge=0)] = 4.0
    """Standard deviation of the map's smoothing, in pixels of the input."""
    interpolation: Interpolation = "bicubic"
    """How the map is brought to the size of the image."""

    @model_validator(mode="before")
    @classmethod
    def _take_the_papers(cls, given: Any) -> Any:
        """Fill in layers and dimensions of the backbone, so that a saved model names its own."""
        if not isinstance(given, dict):
            return given
        paper = _PAPER.get(given.get("backbone", cls.model_fields["backbone"].default), {})
        return {**paper, **given}


class Padim(Detector):
    """The detector; `forward` costs one pass of the backbone and one product per cell."""

    name: ClassVar[str] = "padim"
    paper: ClassVar[str] = "Defard et al. 2020, arXiv 2011.08785"
    settings_class: ClassVar[type[Settings]] = PadimSettings
    settings: PadimSettings
    indices: Tensor
    projection: Tensor

    def __init__(self, settings: PadimSettings | None = None) -> None:
        super().__init__()
        self.settings = settings or PadimSettings()
        self.backbone = Backbone(self.settings.backbone, self.settings.layers)
        width, height = self.settings.image_size
        shapes = self.backbone.shapes(width, height)
        self.grid = (max(h for _, h, _ in shapes), max(w for _, _, w in shapes))
        total = sum(channels for channels, _, _ in shapes)
        d = total if self.settings.dimensions is None else self.settings.dimensions
        if d > total:
            raise FitError(f"dimensions {d} exceed the {total} channels of {', '.join(self.settings.layers)}")
        generator = torch.Generator().manual_seed(self.settings.seed)
        if self.settings.reduction == "random":
            self.register_buffer("indices", torch.randperm(total, generator=generator)[:d].sort().values)
        else:
            gaussian = torch.randn(total, d, generator=generator, dtype=torch.float64)
            self.register_buffer("projection", torch.linalg.qr(gaussian).Q.float().contiguous())
        edges = list(accumulate((channels for channels, _, _ in shapes), initial=0))
        self.channels = [slice(first, last) for first, last in pairwise(edges)]  # of each tap
        self._choose()
        self.register_load_state_dict_post_hook(self._choose)  # type: ignore[no-untyped-call]  # torch's own
        self.gaussians = Gaussians(self.grid[0] * self.grid[1], d)
        self.maps = MapMaker(
            self.grid, (height, width), sigma=self.settings.sigma, interpolation=self.settings.interpolation
        )

    def embed(self, images: Tensor) -> Tensor:
        """Reduced features of every cell, `[cells, B, d]`; coarser taps are replicated to the finest grid.

        Raises:
            InferenceError: the images are not of the size the model was made for.
        """
        width, height = self.settings.image_size
        if images.shape[-2:] != (height, width):
            raise InferenceError(f"images are {images.shape[-1]}x{images.shape[-2]}, the model's are {width}x{height}")
        parts = []
        for tap, channels, chosen in zip(self.backbone(images), self.channels, self.chosen, strict=True):
            if chosen.start == chosen.stop:
                continue  # with few dimensions chance may pass a tap by
            values = tap.permute(0, 2, 3, 1)  # [B, h, w, C]
            if self.settings.reduction == "random":
                values = values.index_select(3, self.indices[chosen] - channels.start)
            else:
                values = values @ self.projection[channels]
            parts.append(F.interpolate(values.permute(0, 3, 1, 2), size=self.grid, mode="nearest"))
        embedded = torch.cat(parts, dim=1) if self.settings.reduction == "random" else torch.stack(parts).sum(0)
        return embedded.permute(2, 3, 0, 1).reshape(-1, images.shape[0], embedded.shape[1])

    def _choose(self, *_: object) -> None:
        """Note which stretch of `indices` lies in which tap; again after every load, for they come with the model."""
        if self.settings.reduction == "random":
            edges = torch.tensor([c.start for c in self.channels] + [self.channels[-1].stop])
            bounds = torch.searchsorted(self.indices.cpu(), edges).tolist()
            self.chosen = [slice(first, last) for first, last in pairwise(bounds)]
        else:
            self.chosen = self.channels

    @torch.no_grad()
    def fit(self, images: TrainingImages, progress: Progress) -> None:
        """Estimate mean and covariance of every cell in one pass.

        Raises:
            FitError: fewer than two images.
            WeightsError: the backbone has no weights.
        """
        self.backbone.require_weights()
        cells, d = self.gaussians.mean.shape
        moments = Moments(cells, d, self.gaussians.mean.device)
        for batch in images.stream():
            moments.update(self.embed(batch))
            progress(int(moments.count), 0)  # how many will come is the caller's knowledge
        if moments.count < 2:
            raise FitError(f"PaDiM needs at least 2 good images, got {moments.count:g}: add images")
        self._learn(moments)

    @torch.no_grad()
    def update(
        self,
        images: TrainingImages | Iterable[Tensor],
        *,
        half_life: float | None = None,
        n_train: int = 0,
        progress: Progress | None = None,
    ) -> None:
        """Learn from more good images, as if they had been among those of `fit`; in memory, as much as `fit` takes.

        Args:
            images: the good images, or batches `[B, 3, H, W]` of them; oldest first, should a half-life be given.
            half_life: images after which an image weighs half as much, better more than there are dimensions; None: all
                weigh the same.
            n_train: how many images it was fitted on, in case it does not know; 0: that is not known either.
            progress: told how many images were taken in.

        Raises:
            FitError: no images, or some that cannot be learned from; a half-life below one image; or the model does
                not know how many images it was fitted on.
            WeightsError: the backbone has no weights.
        """
        self.backbone.require_weights()
        if half_life is not None and half_life < 1:
            raise FitError(f"a half-life of {half_life:g} images forgets each before the next: use 1 or more")
        moments, count = self.gaussians.moments(self.settings.epsilon, n_train), 0
        for batch in images if isinstance(images, Iterable) else _oldest_first(images):
            moments.update(self.embed(batch), half_life)
            count += len(batch)
            if progress is not None:
                progress(count, 0)
        if count == 0:
            raise FitError("there are no images to update the model with: add some")
        self._learn(moments)

    def _learn(self, moments: Moments) -> None:
        if moments.count < _FEW_IMAGES:
            log.warning("few images: distances are mostly guesses", images=int(moments.count), advised=_FEW_IMAGES)
        self.gaussians.fit(moments, self.settings.epsilon)

    def forward(self, images: Tensor) -> Detection:
        """Judge a batch; the map is the Mahalanobis distance, the score its maximum after smoothing."""
        distances = self.gaussians(self.embed(images)).sqrt()  # [cells, B]
        maps = self.maps(distances.mT.unflatten(1, self.grid))  # [B, H, W]
        return Detection(maps=maps, scores=maps.amax(dim=(1, 2)))


def _oldest_first(images: TrainingImages) -> Iterator[Tensor]:
    """All of them in the order of their numbers, which a stream does not keep."""
    numbers = range(len(images))
    return (images.take(numbers[first : first + _BATCH]) for first in numbers[::_BATCH])
