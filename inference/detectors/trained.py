"""What detectors that train by gradients share: the loop over epochs.

A run can be killed at any moment and go on to the same final model, because nothing in it depends on what came before
but the checkpointed tensors: the order of the images, their augmentation and every other draw follow from the seed,
the epoch and the step. The last epoch is the model; no epoch is chosen.
"""

import time
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Protocol

import numpy as np
import structlog
import torch
from pydantic import Field
from torch import Tensor, nn

from inference.detectors.backbones import Backbone
from inference.detectors.base import Detector, Progress, Settings, TrainingImages
from inference.detectors.checkpoints import Checkpoint, Reached
from inference.errors import FitError

log = structlog.get_logger()


class TrainedSettings(Settings):
    """Hyper-parameters every trained detector has; each gives them its own defaults."""

    epochs: Annotated[int, Field(ge=1)]
    """Passes over the training set."""
    batch: Annotated[int, Field(ge=1)]
    """Samples per gradient step."""
    learning_rate: Annotated[float, Field(gt=0)]
    """Of the first step."""
    clip: Annotated[float, Field(gt=0)] | None = None
    """Largest norm of the gradient; None: as it comes."""


@dataclass(frozen=True, slots=True)
class Training:
    """How a training is carried out; but for `minutes`, nothing of it changes what is learned.

    Attributes:
        checkpoint: file that holds a run's state, also when it is done: whoever has put the model into safety removes
            it (`checkpoints.discard`); None: a killed run starts anew.
        every_s: seconds between checkpoints.
        minutes: time the steps may take, those before a kill among them: fewer epochs are made if need be; None: as
            long as it takes.
        features: folder in which features of frozen backbones are kept; None: computed anew in each epoch.
        features_bytes: room they may take there.
    """

    checkpoint: Path | None = None
    every_s: float = 60.0
    minutes: float | None = None
    features: Path | None = None
    features_bytes: int = 10 << 30


class Samples(Protocol):
    """What one epoch is made of."""

    def __len__(self) -> int: ...

    def take(self, numbers: Sequence[int], epoch: int) -> tuple[Tensor, ...]:
        """Samples by number, 0 to `len - 1`, as a batch on the detector's device; the same for the same arguments."""
        ...


class TrainedDetector(Detector):
    """A detector that minimises a loss; the backbone is frozen unless a subclass thaws it."""

    few: ClassVar[int] = 20
    """Fewer good images than this are learned by heart: whoever fits warns of it."""
    settings: TrainedSettings

    @abstractmethod
    def samples(self, images: TrainingImages, training: Training, progress: Progress) -> Samples:
        """Prepare what the epochs are made of, such as cached features or augmented images."""

    @abstractmethod
    def optimizer(self) -> torch.optim.Optimizer:
        """Make the optimiser, over the parameters that learn."""

    @abstractmethod
    def loss(self, batch: tuple[Tensor, ...], generator: torch.Generator) -> Tensor:
        """Loss of a batch of `samples`, a scalar; whatever is drawn comes from the generator (of the CPU)."""

    def rate(self, done: float) -> float:  # noqa: ARG002 - for schedules of subclasses
        """Factor of the learning rate after this share of the training, `0 <= done < 1`."""
        return 1.0

    def fit(self, images: TrainingImages, progress: Progress, *, training: Training | None = None) -> None:
        """Train for the epochs of the settings, or what the budget of minutes holds.

        Raises:
            FitError: fewer than two images, a loss or a weight that is not finite, or a checkpoint of another training.
            WeightsError: the backbone has no weights.
        """
        training = training or Training()
        for module in self.modules():
            if isinstance(module, Backbone):
                module.require_weights()
        if len(images) < 2:
            raise FitError(f"{self.name} needs at least 2 good images, got {len(images)}: add images")
        self.train()
        _Run(self, self.samples(images, training, progress), images, training, progress).carry_out()
        self.eval()

    def trainable(self) -> list[nn.Parameter]:
        """Parameters that learn."""
        return [p for p in self.parameters() if p.requires_grad]


class _Run:
    """One training from its first or its checkpointed step to its last."""

    def __init__(
        self,
        detector: TrainedDetector,
        samples: Samples,
        images: TrainingImages,
        training: Training,
        progress: Progress,
    ) -> None:
        self.detector, self.samples, self.training, self.progress = detector, samples, training, progress
        settings = detector.settings
        self.seed, self.batch = settings.seed, min(settings.batch, len(samples))
        self.steps = max(1, len(samples) // self.batch)  # a short last batch would weigh its samples more
        self.optimizer = detector.optimizer()
        weights = [module.sha256 for module in detector.modules() if isinstance(module, Backbone)]
        about = f"{detector.name} {settings.model_dump_json()} {weights} {images.fingerprint} {len(samples)}"
        self.checkpoint = Checkpoint(training.checkpoint, about)
        self.epochs = settings.epochs
        self.step = 0
        self.before = self.seconds = 0.0  # spent on steps before a kill, and since
        self.smooth: float | None = None  # running mean of the loss, for people

    def carry_out(self) -> None:
        if (found := self.checkpoint.load(self.detector, self.optimizer)) is not None:
            self.step, self.epochs, self.before = found.step, found.epochs, found.seconds
            log.info("training goes on from its checkpoint", epoch=self.step // self.steps, of=self.epochs)
        first = self.step
        if not (first and self._out_of_time(0.0, 0)):
            self._train()
        self._require_finite()
        if self.step > first:
            self._save()

    def _train(self) -> None:
        first, began = self.step, time.monotonic()
        saved = began
        for batch in self._batches():
            self._learn(batch)
            self.step += 1
            now = time.monotonic()
            self.seconds = now - began
            if self._out_of_time(self.seconds, self.step - first):
                break
            done, total = self.step * self.batch, self.epochs * self.steps * self.batch
            epoch = (self.step - 1) // self.steps + 1
            self.progress(done, total, f"epoch {epoch}/{self.epochs}, loss {self.smooth:.4g}")
            if now - saved > self.training.every_s:
                self._save()
                saved = now

    def _save(self) -> None:
        reached = Reached(self.step, self.epochs, self.before + self.seconds)
        self.checkpoint.save(self.detector, self.optimizer, reached)

    def _require_finite(self) -> None:
        """The loss tells of a broken weight one step later: after the last nobody would."""
        for key, tensor in self.detector.state_dict().items():
            if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
                raise FitError(
                    f"{key} of {self.detector.name} is not finite after step {self.step}: lower learning_rate "
                    f"({self.detector.settings.learning_rate:g})"
                )

    def _batches(self) -> Iterator[tuple[Tensor, ...]]:
        """The rest of the training, prepared one batch ahead."""
        with ThreadPoolExecutor(max_workers=1) as pool:
            coming = pool.submit(self._batch, self.step)
            while self.step < self.epochs * self.steps:
                batch = coming.result()
                coming = pool.submit(self._batch, self.step + 1)
                yield batch

    def _batch(self, step: int) -> tuple[Tensor, ...]:
        epoch, within = divmod(step, self.steps)
        order = np.random.default_rng([self.seed, epoch]).permutation(len(self.samples))
        return self.samples.take(order[within * self.batch : (within + 1) * self.batch].tolist(), epoch)

    def _learn(self, batch: tuple[Tensor, ...]) -> None:
        settings = self.detector.settings
        rate = settings.learning_rate * self.detector.rate(self.step / (self.epochs * self.steps))
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group.get("scale", 1.0)
        generator = torch.Generator().manual_seed(hash((self.seed, self.step)) & 0xFFFFFFFF)
        with _mixed_precision(batch[0].device):
            loss = self.detector.loss(batch, generator)
        value = float(loss.detach())
        if not np.isfinite(value):
            raise FitError(
                f"the loss of {self.detector.name} became {value} in step {self.step + 1}: lower learning_rate "
                f"({settings.learning_rate:g})"
            )
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch's own
        if settings.clip is not None:
            nn.utils.clip_grad_norm_(self.detector.trainable(), settings.clip)
        self.optimizer.step()
        self.smooth = value if self.smooth is None else 0.95 * self.smooth + 0.05 * value

    def _out_of_time(self, seconds: float, steps: int) -> bool:
        """Fit the number of epochs to the budget once the first epoch tells their price; break off when it is spent.

        The rate schedules begin flat, so that the steps before the plan is made are those of the plan.
        """
        if self.training.minutes is None:
            return False
        budget = 60 * self.training.minutes
        spent = self.before + seconds
        if self.step == self.steps:
            epoch = self.steps * (seconds / steps if steps else spent / self.step)
            affordable = max(1, 1 + int((budget - spent) / max(epoch, 1e-9)))
            if affordable < self.epochs:
                log.info("the budget holds fewer epochs", minutes=self.training.minutes, epochs=affordable)
                self.epochs = affordable
        if spent <= budget or self.step >= self.epochs * self.steps:
            return False
        log.warning("the budget is spent", minutes=self.training.minutes, epochs=round(self.step / self.steps, 2))
        return True


def _mixed_precision(device: torch.device) -> AbstractContextManager[object]:
    """bfloat16 where it is fast; its range is float32's, so that no gradient needs scaling."""
    return torch.autocast(device.type, torch.bfloat16) if device.type == "cuda" else nullcontext()
