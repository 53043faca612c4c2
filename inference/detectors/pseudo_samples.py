"""Good images, some of them spoiled by made-up defects, as what a network trains on.

The training set is repeated, and a share of the repetitions spoiled. Everything drawn follows from the seed, the epoch
and the number of the sample, so that a killed training sees the same again.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from inference.detectors.backbones import Backbone
from inference.detectors.base import Progress, TrainingImages
from inference.detectors.features import FrozenFeatures
from inference.detectors.pseudo_anomalies import anomalies
from inference.detectors.trained import Training


class PseudoSamples:
    """Images `[B, 3, H, W]` in [0, 1] and masks `[B, h, w]` bool, true in cells with a changed pixel.

    Args:
        images: the good images.
        repeat: how often each comes in an epoch.
        ratio: share of the samples that are spoiled, 0 to 1.
        kinds: of made-up defects, see `inference.detectors.pseudo_anomalies`.
        grid: height and width of the masks in cells.
        seed: decides which samples are spoiled, and how.
        redraw: spoil other ones in each epoch, and in other ways; else as in the first.
        negatives: spoil half of them in their negative: confetti only darkens, so that bright blobs come about.
    """

    def __init__(
        self,
        images: TrainingImages,
        *,
        repeat: int,
        ratio: float,
        kinds: Sequence[str],
        grid: tuple[int, int],
        seed: int,
        redraw: bool,
        negatives: bool,
    ) -> None:
        self._images, self._repeat, self._ratio, self._kinds = images, repeat, ratio, tuple(kinds)
        self._grid, self._seed, self._redraw, self._negatives = grid, seed, redraw, negatives
        self.fingerprint = f"{images.fingerprint} spoiled {repeat} {ratio} {self._kinds} {negatives} {seed}"

    def __len__(self) -> int:
        return self._repeat * len(self._images)

    def take(self, numbers: Sequence[int], epoch: int) -> tuple[Tensor, ...]:
        """The samples of these numbers in this epoch."""
        epoch = epoch if self._redraw else 0
        images = self._images.take([number % len(self._images) for number in numbers]).clone()
        masks = torch.zeros(len(numbers), *images.shape[2:], dtype=torch.bool)
        spoiled = self._spoiled(epoch)
        for index, number in enumerate(numbers):
            if spoiled[number]:
                images[index], masks[index] = self._spoil(images[index], number, epoch)
        return images, self._cells(masks).to(images.device)

    def _spoiled(self, epoch: int) -> NDArray[np.bool_]:
        """Which samples of an epoch are: exactly the ratio of them."""
        order = np.random.default_rng([self._seed, epoch, len(self)]).permutation(len(self))
        return np.asarray(order < round(self._ratio * len(self)))

    def _spoil(self, image: Tensor, number: int, epoch: int) -> tuple[Tensor, Tensor]:
        """A spoiled image `[3, H, W]`, where nothing but the defect differs in any bit, and its mask `[H, W]`."""
        picture = (image * 255).round().byte().permute(1, 2, 0).cpu().numpy()
        rng = np.random.default_rng([self._seed, epoch, number])
        negative = self._negatives and rng.random() < 0.5
        changed, mask = anomalies(255 - picture if negative else picture, rng, self._kinds)
        if negative:
            changed = 255 - changed
        where = torch.from_numpy(mask)
        values = torch.from_numpy(changed).permute(2, 0, 1).float() / 255
        return torch.where(where.to(image.device), values.to(image.device), image), where

    def _cells(self, masks: Tensor) -> Tensor:
        return F.adaptive_max_pool2d(masks.float().unsqueeze(1), self._grid).squeeze(1) > 0


class FrozenPseudoSamples:
    """The first epoch's samples, in every epoch, as features of a frozen backbone and masks; both are made once.

    Args:
        samples: what is shown.
        backbone: frozen, with weights.
        size: width and height of the images.
        training: where features are kept.
        progress: told how far the features are.
    """

    def __init__(
        self,
        samples: PseudoSamples,
        backbone: Backbone,
        *,
        size: tuple[int, int],
        training: Training,
        progress: Progress,
    ) -> None:
        self._samples = samples
        self._masks: dict[int, Tensor] = {}
        self._features = FrozenFeatures(
            backbone,
            count=len(samples),
            take=self._draw,
            fingerprint=samples.fingerprint,
            size=size,
            folder=training.features,
            room=training.features_bytes,
            progress=progress,
        )

    def __len__(self) -> int:
        return len(self._samples)

    def take(self, numbers: Sequence[int], epoch: int) -> tuple[Tensor, ...]:  # noqa: ARG002 - every epoch the same
        """Features of each tap, then the masks."""
        features = self._features.take(numbers)
        if missing := [number for number in numbers if number not in self._masks]:
            self._draw(missing)  # the features are on disk from an earlier training
        return *features, torch.stack([self._masks[number] for number in numbers]).to(features[0].device)

    def _draw(self, numbers: Sequence[int]) -> Tensor:
        images, masks = self._samples.take(numbers, 0)
        self._masks.update(zip(numbers, masks.cpu(), strict=True))
        return images
