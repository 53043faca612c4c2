"""VAE: what an autoencoder that has learned good images only cannot draw again.

The baseline with which PaDiM's authors compare it (arXiv 2011.08785, section IV-B): a variational autoencoder (Kingma,
Welling, arXiv 1312.6114) with ResNet-18 as encoder, a convolutional latent variable, 8x8 for 256 pixels, and the
encoder's mirror image as decoder. Their own code is not public. What they leave open is settled so:

- Both start from chance and are equally deep: together they take the 0.09 GB that the paper reports.
- The latent variable has 128 channels; the paper gives none.
- They enlarge pictures to 292 pixels and cut 256 out of them, so that the borders are never judged. Here the same
  rotations and shifts are made in place, with mirrored borders, and the whole picture is judged.
- The map is smoothed as theirs of PaDiM is, and the image's score is its maximum; they report no image scores.
"""

from collections.abc import Mapping, Sequence
from math import radians
from typing import Annotated, Any, ClassVar, Literal, cast

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from inference.detectors.base import Detection, Progress, Settings, TrainingImages, seeded
from inference.detectors.maps import MapMaker
from inference.detectors.residual import STRIDE, Decoder, Encoder
from inference.detectors.trained import Samples, TrainedDetector, TrainedSettings, Training
from inference.errors import InferenceError

_LOG_VARIANCE = 10.0  # its exponential is far from overflow, and no posterior is wider or sharper than that


class VaeSettings(TrainedSettings):
    """Hyper-parameters of the VAE; the defaults are for two cores, `paper_profile` is that of PaDiM's authors."""

    width: Annotated[int, Field(ge=1)] = 16
    """Channels of the first stage; the last has eight times as many. ResNet-18's width is 64."""
    latent: Annotated[int, Field(ge=1)] = 32
    """Channels of the latent variable at each of its cells, which are 32 pixels wide."""
    kl_weight: Annotated[float, Field(ge=0)] = 1.0
    """Of the divergence from the prior, beside the squared error."""
    rotation: Annotated[float, Field(ge=0, le=180)] = 2.0
    """Images are turned by up to so many degrees in training."""
    shift: Annotated[float, Field(ge=0, lt=1)] = 5 / 292
    """And moved by up to this share of their width and height."""
    epochs: Annotated[int, Field(ge=1)] = 40
    """Passes over the training set."""
    batch: Annotated[int, Field(ge=2)] = 16
    """Images per gradient step; batch normalisation needs two."""
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    """Of Adam."""
    score: Literal["max", "mean"] = "max"
    """Image score: the largest or the mean value of the map."""
    sigma: Annotated[float, Field(ge=0)] = 4.0
    """Standard deviation of the map's smoothing, in pixels of the input."""

    paper_profile: ClassVar[Mapping[str, Any]] = {
        "image_size": (256, 256),
        "width": 64,
        "latent": 128,
        "epochs": 100,
        "batch": 32,
        "learning_rate": 1e-4,
    }


class Vae(TrainedDetector):
    """The detector; it judges by the mean of the posterior, without chance.

    Attributes:
        encoder: features of an image; images are first filled up to a multiple of 32 pixels.
        posterior: mean and log-variance of the latent variable.
        decoder: the image drawn again.
    """

    name: ClassVar[str] = "vae"
    paper: ClassVar[str] = "Defard et al. 2020, arXiv 2011.08785, section IV-B"
    settings_class: ClassVar[type[Settings]] = VaeSettings
    settings: VaeSettings

    def __init__(self, settings: VaeSettings | None = None) -> None:
        super().__init__()
        self.settings = settings = settings or VaeSettings()
        width, height = settings.image_size
        channels = 8 * settings.width
        with seeded(settings.seed):
            self.encoder = Encoder(settings.width)
            self.posterior = nn.Conv2d(channels, 2 * settings.latent, 1)
            self.decoder = nn.Sequential(nn.Conv2d(settings.latent, channels, 1), Decoder(settings.width))
        self.maps = MapMaker((height, width), (height, width), sigma=settings.sigma, interpolation="nearest")

    def samples(self, images: TrainingImages, training: Training, progress: Progress) -> Samples:  # noqa: ARG002 - inherited
        """Turned and shifted images."""
        return _Moved(images, rotation=self.settings.rotation, shift=self.settings.shift, seed=self.settings.seed)

    def optimizer(self) -> torch.optim.Optimizer:
        """Adam."""
        return torch.optim.Adam(self.parameters(), lr=self.settings.learning_rate)

    def loss(self, batch: tuple[Tensor, ...], generator: torch.Generator) -> Tensor:
        """Squared error plus divergence `KL(q(z|x) || N(0, 1))`, per value of the image."""
        (images,) = batch
        mean, log_variance = self.encode(images)
        noise = torch.randn(mean.shape, generator=generator).to(mean.device)
        drawn = self.decode(mean + noise * torch.exp(0.5 * log_variance))
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum()
        return ((drawn - images).square().sum() + self.settings.kl_weight * divergence) / images.numel()

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of the latent variable, `[B, latent, ceil(H / 32), ceil(W / 32)]` each.

        Raises:
            InferenceError: the images are not of the size the model was made for.
        """
        width, height = self.settings.image_size
        if images.shape[-2:] != (height, width):
            raise InferenceError(f"images are {images.shape[-1]}x{images.shape[-2]}, the model's are {width}x{height}")
        filled = F.pad(images, (0, -width % STRIDE, 0, -height % STRIDE), mode="replicate")
        # Not channels last: torch 2.14 corrupts memory training small maps in that layout (seen with oneDNN; with one
        # thread it crashed, with two the same seed gave another model).
        features = self.encoder(filled)
        mean, log_variance = self.posterior(features).float().chunk(2, dim=1)
        return mean, log_variance.clamp(-_LOG_VARIANCE, _LOG_VARIANCE)

    def decode(self, latent: Tensor) -> Tensor:
        """Images `[B, 3, H, W]` in (0, 1)."""
        width, height = self.settings.image_size
        return cast("Tensor", self.decoder(latent).float())[:, :, :height, :width]

    def forward(self, images: Tensor) -> Detection:
        """Judge a batch by its squared error in each pixel, the mean over the channels."""
        mean, _ = self.encode(images)
        maps = self.maps((self.decode(mean) - images).square().mean(dim=1))
        scores = maps.amax(dim=(1, 2)) if self.settings.score == "max" else maps.mean(dim=(1, 2))
        return Detection(maps=maps, scores=scores)


class _Moved:
    """Images turned and shifted by chance, in other ways in each epoch."""

    def __init__(self, images: TrainingImages, *, rotation: float, shift: float, seed: int) -> None:
        self._images, self._seed = images, seed
        self._reach = np.array([radians(rotation), 2 * shift, 2 * shift])  # torch's coordinates run from -1 to 1

    def __len__(self) -> int:
        return len(self._images)

    def take(self, numbers: Sequence[int], epoch: int) -> tuple[Tensor, ...]:
        """The images of these numbers as this epoch has them."""
        images = self._images.take(numbers)
        draws = np.stack([np.random.default_rng([self._seed, epoch, n]).uniform(-1, 1, 3) for n in numbers])
        angle, across, down = torch.from_numpy(draws * self._reach).float().to(images.device).unbind(1)
        aspect = images.shape[3] / images.shape[2]
        rows = [[angle.cos(), -angle.sin() / aspect, across], [angle.sin() * aspect, angle.cos(), down]]
        grid = F.affine_grid(
            torch.stack([torch.stack(row, 1) for row in rows], 1), list(images.shape), align_corners=False
        )
        return (F.grid_sample(images, grid, padding_mode="reflection", align_corners=False),)
