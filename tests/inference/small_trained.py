"""A small trained detector on backbone features, and a process that trains it: run as a script, it can be killed."""

import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import structlog
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from inference.detectors.backbones import Backbone
from inference.detectors.base import Detection, Progress, Settings, TrainingImages, seeded
from inference.detectors.checkpoints import discard
from inference.detectors.features import FrozenFeatures
from inference.detectors.trained import Samples, TrainedDetector, TrainedSettings, Training
from inference.weights import load_backbone_weights
from tests.inference.tensors import Tensors

SIZE = (32, 24)  # width, height
IMAGES = 22


class SmallSettings(TrainedSettings):
    image_size: tuple[int, int] = SIZE
    epochs: int = 4
    batch: int = 4
    learning_rate: float = 1e-2
    clip: float | None = 1.0
    optimizer: Literal["adam", "sgd"] = "adam"


class Small(TrainedDetector):
    """Learns to say the same of every cell; has a batch norm, draws in its samples and draws in its loss."""

    name: ClassVar[str] = "small"
    paper: ClassVar[str] = "none"
    settings_class: ClassVar[type[Settings]] = SmallSettings
    settings: SmallSettings

    def __init__(self, settings: SmallSettings | None = None) -> None:
        super().__init__()
        self.settings = settings or SmallSettings()
        self.backbone = Backbone("resnet18", ["layer1"])
        with seeded(self.settings.seed):
            self.head = nn.Sequential(nn.Conv2d(64, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 1, 1))
        self.rates: list[float] = []
        self.order: list[tuple[int, list[int]]] = []

    def samples(self, images: TrainingImages, training: Training, progress: Progress) -> Samples:
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
        return _Noisy(features, self.settings.seed, self.order)

    def optimizer(self) -> torch.optim.Optimizer:
        if self.settings.optimizer == "adam":
            return torch.optim.Adam(self.trainable(), weight_decay=1e-3)
        return torch.optim.SGD(self.trainable(), momentum=0.9, nesterov=True)

    def rate(self, done: float) -> float:
        self.rates.append(done)
        return 1 - done

    def loss(self, batch: tuple[Tensor, ...], generator: torch.Generator) -> Tensor:
        (features,) = batch
        drawn = torch.rand(features.shape[0], 1, 1, 1, generator=generator)
        return (self.head(features * (1 + 0.1 * drawn)) - 1).square().mean()

    def forward(self, images: Tensor) -> Detection:
        scores = self.head(self.backbone(images)[0]).square().mean(dim=(1, 2, 3))
        return Detection(maps=scores[:, None, None].expand(-1, *images.shape[2:]), scores=scores)


class _Noisy:
    def __init__(self, features: FrozenFeatures, seed: int, order: list[tuple[int, list[int]]]) -> None:
        self._features, self._seed, self._order = features, seed, order

    def __len__(self) -> int:
        return len(self._features)

    def take(self, numbers: Sequence[int], epoch: int) -> tuple[Tensor, ...]:
        self._order.append((epoch, list(numbers)))
        (tap,) = self._features.take(numbers)
        draws = [torch.Generator().manual_seed(1000 * epoch + number + self._seed) for number in numbers]
        noise = torch.stack([torch.randn(tap.shape[1:], generator=draw) for draw in draws])
        return (tap + 0.1 * noise,)


def pictures() -> Tensors:
    width, height = SIZE
    images = torch.rand(IMAGES, 3, height, width, generator=torch.Generator().manual_seed(1))
    return Tensors(images, fingerprint="pictures")


def small(**settings: Any) -> Small:
    """With random weights in its backbone."""
    detector = Small(SmallSettings(**settings))
    load_backbone_weights(detector.backbone, "random")
    return detector


def train(optimizer: str, folder: Path, pause: int = 0, slow: float = 0.0) -> list[int]:
    """Train with a checkpoint after every step, on one thread.

    Args:
        optimizer: adam or sgd.
        folder: gets the checkpoint, the features and, in the end, the model.
        pause: after this step, wait for ever.
        slow: seconds to wait after each step.

    Returns:
        The steps that were made; each is also a line on stdout.
    """
    torch.set_num_threads(1)
    detector = small(optimizer=optimizer)
    batch = detector.settings.batch
    steps: list[int] = []

    def progress(done: int, _total: int, note: str = "", /) -> None:
        if not note.startswith("epoch"):
            return
        steps.append(done // batch)
        sys.stdout.write(f"{steps[-1]}\n")
        sys.stdout.flush()
        time.sleep(slow)
        if steps[-1] == pause:
            signal.pause()

    training = Training(checkpoint=folder / "run.checkpoint", every_s=0, features=folder / "features")
    detector.fit(pictures(), progress, training=training)
    save_file({key: t.contiguous() for key, t in detector.state_dict().items()}, folder / "model.safetensors")
    discard(folder / "run.checkpoint")
    return steps


if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    train(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]))
