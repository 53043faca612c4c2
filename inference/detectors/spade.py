"""SPADE: how far an image, and each of its cells, is from the training images most like it.

Cohen, Hoshen: Sub-image anomaly detection with deep pyramid correspondences. arXiv 2005.02357. The paper's
profile is that with which the authors of PaDiM rebuilt it for their comparison (arXiv 2011.08785, section IV-B).

Nothing is estimated: the training images' features are the model, so that it grows with them (1.8 MB an image with
ResNet18 at 256 pixels, half of that in float16), and a judgement searches all cells of the K images it retrieved: on
one thread of a CPU 1.9 s for K = 50, and 0.24 s for K = 5.
"""

from collections.abc import Mapping
from math import prod
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from inference.detectors.backbones import Backbone, BackboneName
from inference.detectors.base import Detection, Detector, Progress, Settings, TrainingImages
from inference.detectors.gallery import Gallery, Storage
from inference.detectors.maps import Interpolation, MapMaker
from inference.detectors.neighbours import nearest
from inference.errors import FitError, InferenceError

_RESNET = ("layer1", "layer2", "layer3")
_EFFICIENTNET = ("features.2", "features.3", "features.5")
_USUAL: dict[str, dict[str, Any]] = {
    "resnet18": {"layers": _RESNET, "image_layer": "layer3"},
    "resnet50": {"layers": _RESNET, "image_layer": "layer4"},
    "wide_resnet50_2": {"layers": _RESNET, "image_layer": "layer4"},
    "efficientnet_b5": {"layers": _EFFICIENTNET, "image_layer": "features.7"},
    "efficientnet_b7": {"layers": _EFFICIENTNET, "image_layer": "features.7"},
    "swin_b": {"layers": ("features.1", "features.3", "features.5"), "image_layer": "features.7"},
}


class SpadeSettings(Settings):
    """Hyper-parameters of SPADE; the defaults are for two cores, `paper_profile` is that of PaDiM's authors."""

    backbone: BackboneName = "resnet18"
    """Network the features come from."""
    layers: Annotated[tuple[str, ...], Field(min_length=1)] = ()
    """Tapped nodes whose cells are compared; their maps are averaged."""
    image_layer: str = ""
    """Tapped node whose mean over all cells finds the images to compare with: the paper's layer4; layer3 for ResNet18,
    whose files of weights often end there."""
    neighbours: Annotated[int, Field(ge=1)] = 5
    """K, training images compared with; all where there are fewer. The paper's 50 take a CPU two seconds an image."""
    kappa: Annotated[int, Field(ge=1)] = 1
    """Nearest cells of those images whose distances are averaged."""
    score: Literal["image", "map"] = "image"
    """Image score: `image`, the mean distance to the K training images, or `map`, the highest value of the map."""
    storage: Storage = "float32"
    """How the features are kept; float16 halves the model."""
    sigma: Annotated[float, Field(ge=0)] = 4.0
    """Standard deviation of the map's smoothing, in pixels of the input."""
    interpolation: Interpolation = "bicubic"
    """How the maps are brought to the size of the image."""

    paper_profile: ClassVar[Mapping[str, Any]] = {
        "backbone": "wide_resnet50_2",
        "image_size": (224, 224),
        "neighbours": 50,
    }

    @model_validator(mode="before")
    @classmethod
    def _name_the_layers(cls, given: Any) -> Any:
        """Fill in the backbone's layers, so that a saved model names its own."""
        if not isinstance(given, dict):
            return given
        usual = _USUAL.get(given.get("backbone", cls.model_fields["backbone"].default), {})
        return {**usual, **given}


class Spade(Detector):
    """The detector; the search is most of what `forward` costs.

    Attributes:
        backbone: frozen; its taps are those of the settings' `layers`, then `image_layer`.
        images: the training images' pooled features, rows `[C]`.
        levels: the features of their cells, one level for each layer.
    """

    name: ClassVar[str] = "spade"
    paper: ClassVar[str] = "Cohen, Hoshen 2020, arXiv 2005.02357"
    streaming: ClassVar[bool] = False
    settings_class: ClassVar[type[Settings]] = SpadeSettings
    settings: SpadeSettings

    def __init__(self, settings: SpadeSettings | None = None) -> None:
        super().__init__()
        self.settings = settings or SpadeSettings()
        self.backbone = Backbone(self.settings.backbone, (*self.settings.layers, self.settings.image_layer))
        width, height = self.settings.image_size
        *shapes, (channels, _, _) = self.backbone.shapes(width, height)
        self.images = Gallery(channels, storage=self.settings.storage)
        self.levels = nn.ModuleList(_Level(shape, self.settings) for shape in shapes)

    def embed(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Pooled features `[B, C]`, and those of the cells `[B, h * w, C]` of each layer.

        Raises:
            InferenceError: the images are not of the size the model was made for.
        """
        width, height = self.settings.image_size
        if images.shape[-2:] != (height, width):
            raise InferenceError(f"images are {images.shape[-1]}x{images.shape[-2]}, the model's are {width}x{height}")
        *taps, last = self.backbone(images)
        return last.mean(dim=(2, 3)), [tap.flatten(2).mT.contiguous() for tap in taps]

    @torch.no_grad()
    def fit(self, images: TrainingImages, progress: Progress) -> None:
        """Remember the features of every image.

        Raises:
            FitError: fewer than two images, or features too large for float16.
            WeightsError: the backbone has no weights.
        """
        self.backbone.require_weights()
        galleries = [self.images, *(level.cells for level in self.levels if isinstance(level, _Level))]
        for gallery in galleries:
            gallery.begin(len(images))
        count = 0
        for batch in images.stream():
            pooled, cells = self.embed(batch)
            for gallery, rows in zip(galleries, [pooled, *cells], strict=True):
                gallery.put(count, rows)
            count += len(batch)
            progress(count, len(images))
        if count < 2:
            raise FitError(f"SPADE needs at least 2 good images, got {count}: add images")
        for gallery in galleries:
            gallery.end(count)

    def forward(self, images: Tensor) -> Detection:
        """Judge a batch: each image is compared with the training images it retrieves."""
        pooled, cells = self.embed(images)
        distances, retrieved = nearest(pooled, self.images.rows, self.settings.neighbours)  # [B, K]
        maps = [level(tap, retrieved) for level, tap in zip(self.levels, cells, strict=True)]
        averaged = torch.stack(maps).mean(0)  # [B, H, W]
        scores = distances.mean(1) if self.settings.score == "image" else averaged.amax(dim=(1, 2))
        return Detection(maps=averaged, scores=scores)


class _Level(nn.Module):
    """The comparison of cells at one layer of features `[C, h, w]`."""

    def __init__(self, shape: tuple[int, int, int], settings: SpadeSettings) -> None:
        super().__init__()
        channels, *self.grid = shape
        width, height = settings.image_size
        self.kappa = settings.kappa
        self.cells = Gallery(prod(self.grid), channels, storage=settings.storage)
        self.maps = MapMaker(shape[1:], (height, width), sigma=settings.sigma, interpolation=settings.interpolation)

    def forward(self, cells: Tensor, retrieved: Tensor) -> Tensor:
        """Maps `[B, H, W]` of cells `[B, h * w, C]` against those of the retrieved images `[B, K]`."""
        means = []
        for queries, numbers in zip(cells, retrieved, strict=True):
            gallery = self.cells.rows[numbers].flatten(0, 1)  # [K * h * w, C]
            means.append(nearest(queries, gallery, self.kappa)[0].mean(1))
        maps: Tensor = self.maps(torch.stack(means).reshape(-1, *self.grid))
        return maps
