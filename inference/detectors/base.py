"""The law of a detector.

Notation used in all detectors: B images in a batch, `H, W` their height and width, `h, w` the height and width of the
anomaly map, `C` channels, `d` dimensions after reduction, `N` images in the training set.

A detector is a `torch.nn.Module` that learns from good images only and obeys:

- **Alone.** The score of an image does not depend on the other images of its batch (to 1e-4 relative).
- **Streaming.** `fit` reads its data as a stream or piece by piece; but for galleries (`streaming` is false), memory
  does not grow with N.
- **Repeatable.** The same seed gives the same model on the same machine.
- **Sealed.** All it has learned is in `state_dict`, and survives a bundle round trip bit for bit. `settings` rebuilds
  the empty module.
- **Finite.** Maps and scores are finite float32, higher means more anomalous; anything else is an error of the caller.

One contract test runs over every detector of the table in `inference/detectors/__init__.py`.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class Detection:
    """What a detector says about a batch.

    Attributes:
        maps: anomaly maps `[B, h, w]` float32, higher = more anomalous; for a detector without pixel maps `[B, 1, 1]`.
        scores: image scores `[B]` float32.
    """

    maps: Tensor
    scores: Tensor


class Settings(BaseModel):
    """A detector's hyper-parameters: each subclass adds its own fields, documented with their source."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    image_size: tuple[int, int] = (256, 256)
    """Width and height of the input in pixels."""
    seed: int = 0
    """Everything random in the model derives from it."""

    paper_profile: ClassVar[Mapping[str, Any]] = {}
    """What the paper's setting changes in the defaults, `image_size` among it. The defaults finish on two cores."""


class TrainingImages(Protocol):
    """Good images to learn from: `[B, 3, H, W]` float32 in [0, 1], RGB, on the detector's device.

    Attributes:
        fingerprint: names what the images show and how they were prepared: equal ones give equal features.
    """

    fingerprint: str

    def __len__(self) -> int:
        """How many there are; of files, as far as is known before all were read."""
        ...

    def stream(self) -> Iterator[Tensor]:
        """One pass over all images in batches; each pass in another order, which follows from the seed."""
        ...

    def take(self, numbers: Sequence[int]) -> Tensor:
        """The images of these numbers, 0 to `len - 1`; the same number is always the same image."""
        ...


class Progress(Protocol):
    """Told how far the work is, in images."""

    def __call__(self, done: int, total: int, note: str = "", /) -> None:
        """Take notice: `total` 0 means as many as there are; `note` is shown beside the bar."""


class Detector(nn.Module, ABC):
    """Base of all detectors; see the module's docstring for the law."""

    name: ClassVar[str]
    paper: ClassVar[str]
    pixel_maps: ClassVar[bool] = True
    streaming: ClassVar[bool] = True
    settings_class: ClassVar[type[Settings]] = Settings
    settings: Settings

    @abstractmethod
    def fit(self, images: TrainingImages, progress: Progress) -> None:
        """Learn what normal looks like.

        Args:
            images: the good images.
            progress: told how far the work is.

        Raises:
            inference.errors.FitError: the images are too few, or cannot be learned from.
        """

    @abstractmethod
    def forward(self, images: Tensor) -> Detection:
        """Judge a batch `[B, 3, H, W]` float32 in [0, 1], RGB."""

    def parameter_count(self) -> int:
        """Number of parameters and learned statistics."""
        return sum(t.numel() for t in [*self.parameters(), *self.buffers()])


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Let what is initialised inside follow from `seed`, and leave torch's global generator as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield
