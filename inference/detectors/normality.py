"""What good images look like at each cell, as a linear map: features in, deviations from normal out.

A camera that stands still shows the same thing at the same place, and most of what sets one feature vector from another
is where it was taken. The Gaussian of each cell (as PaDiM has it, arXiv 2011.08785, section III) takes that away: what
is left has mean 0 and covariance near the identity everywhere, and its squared length is a Mahalanobis distance. A
network that is trained on top begins where PaDiM ends, instead of having to find it.

The Gaussians know the images they were learned from: there deviations are smaller than they will ever be again. So a
network is trained on deviations from Gaussians that have not seen the image, see `CrossFitted`.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import reduce
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from inference.detectors.gaussians import Gaussians, Moments, merge
from inference.errors import FitError

_FOLDS = 4

Pass = Callable[[], Iterable[Sequence[Tensor]]]
"""Starts a pass over the good images, in order: batches of the features `[B, C, h, w]` of each tap."""


class Normality(nn.Module):
    """Whitening of one tap, cell by cell; an invertible affine map, whose Jacobian does not depend on its input.

    Args:
        shape: channels, height and width of the tap.
        shrinkage: share of the mean variance that is added to each variance: the fewer the images, the more is guessed.
    """

    def __init__(self, shape: tuple[int, int, int], *, shrinkage: float) -> None:
        super().__init__()
        self.channels, *self.grid = shape
        self.shrinkage = shrinkage
        self.gaussians = Gaussians(self.grid[0] * self.grid[1], self.channels)

    def gather(self, features: Iterable[Tensor]) -> Moments:
        """Count, mean and scatter of good features `[B, C, h, w]`."""
        cells, d = self.gaussians.mean.shape
        moments = Moments(cells, d, self.gaussians.mean.device)
        for batch in features:
            moments.update(self._by_cell(batch.float()))
        return moments

    def fit(self, moments: Moments) -> None:
        """Learn from what was gathered.

        Raises:
            FitError: fewer than two images, or a shrinkage that leaves a covariance without an inverse.
        """
        variances = [moments.covariance(part).diagonal(dim1=-2, dim2=-1).mean() for part in moments.chunks()]
        try:
            self.gaussians.fit(moments, self.shrinkage * float(torch.stack(variances).mean()) + 1e-12)
        except FitError as exc:  # it names PaDiM's setting
            raise FitError(
                f"the covariances of {moments.count:g} good images cannot be inverted: raise shrinkage "
                f"({self.shrinkage:g}) or fit on more images"
            ) from exc

    def forward(self, features: Tensor) -> Tensor:
        """Deviations of features `[B, C, h, w]`, of the same shape."""
        with torch.autocast("cuda", enabled=False):  # bfloat16's 8 bits are too few to subtract means with
            whitened = self.gaussians.whiten(self._by_cell(features.float()))  # [cells, B, C]
        return whitened.permute(1, 2, 0).reshape(-1, self.channels, *self.grid)

    def _by_cell(self, features: Tensor) -> Tensor:
        return features.permute(2, 3, 0, 1).reshape(-1, features.shape[0], self.channels)


class Normalities(nn.Module):
    """Normality of several taps."""

    def __init__(self, shapes: Sequence[tuple[int, int, int]], *, shrinkage: float) -> None:
        super().__init__()
        self.taps = nn.ModuleList(Normality(shape, shrinkage=shrinkage) for shape in shapes)

    def each(self) -> list[Normality]:
        """Of the taps, in their order."""
        return [cast("Normality", tap) for tap in self.taps]

    def forward(self, taps: Sequence[Tensor]) -> list[Tensor]:
        """Deviations of each tap."""
        return [normality(tap) for normality, tap in zip(self.each(), taps, strict=True)]


class Distances(nn.Module):
    """How far from normal each cell is in all taps together: the sum of their standardised Mahalanobis distances.

    Attributes:
        centre: mean distance of each tap over good images.
        spread: its standard deviation.
        weight: what each tap counts; learned, from 1.
    """

    centre: Tensor
    spread: Tensor

    def __init__(self, taps: int) -> None:
        super().__init__()
        self.register_buffer("centre", torch.zeros(taps))
        self.register_buffer("spread", torch.ones(taps))
        self.weight = nn.Parameter(torch.ones(taps))

    @torch.no_grad()
    def fit(self, deviations: Iterable[Sequence[Tensor]]) -> None:
        """Learn centre and spread from the deviations of good images, batch by batch."""
        sums = torch.zeros(3, self.weight.numel(), dtype=torch.float64, device=self.centre.device)
        for batch in deviations:
            for number, tap in enumerate(batch):
                values = _length(tap).double()
                sums[:, number] += torch.stack([torch.ones_like(values), values, values.square()]).sum(dim=(1, 2, 3))
        mean = sums[1] / sums[0]
        self.centre.copy_(mean)
        self.spread.copy_((sums[2] / sums[0] - mean.square()).clamp_min(1e-12).sqrt())

    def forward(self, deviations: Sequence[Tensor]) -> Tensor:
        """`[B, h, w]`, on the grid of the first tap."""
        size = deviations[0].shape[2:]
        total = torch.zeros((), device=self.centre.device)
        for number, tap in enumerate(deviations):
            standard = (_length(tap) - self.centre[number]) / self.spread[number]
            sized = F.interpolate(standard.unsqueeze(1), size=size, mode="bilinear").squeeze(1)
            total = total + self.weight[number] * sized
        return total


class CrossFitted:
    """Deviations of each good image from Gaussians that were learned without it, and without its neighbours.

    Also fits the given normalities on all images: these are for images that nobody has seen.

    Args:
        normalities: empty.
        features: starts a pass over the good images.
        count: how many there are; their number decides the fold.
    """

    def __init__(self, normalities: Normalities, features: Pass, count: int) -> None:
        folds = min(_FOLDS, count // 2)
        self._fold = torch.arange(count) * max(folds, 1) // count
        shapes = [(n.channels, n.grid[0], n.grid[1]) for n in normalities.each()]
        device = next(normalities.buffers()).device
        self._without = [
            Normalities(shapes, shrinkage=normalities.each()[0].shrinkage).to(device) for _ in range(folds)
        ]
        for number, normality in enumerate(normalities.each()):
            parts = [normality.gather(self._of_fold(features, number, fold)) for fold in range(max(folds, 1))]
            normality.fit(reduce(merge, parts))
            for fold, without in enumerate(self._without if folds > 1 else []):
                without.each()[number].fit(reduce(merge, parts[:fold] + parts[fold + 1 :]))
        if folds < 2:  # too few to leave any out
            self._without = [normalities]

    def _of_fold(self, features: Pass, tap: int, fold: int) -> Iterable[Tensor]:
        first = 0
        for batch in features():
            chosen = self._fold[first : first + len(batch[tap])] == fold
            first += len(batch[tap])
            if bool(chosen.any()):
                yield batch[tap][chosen.to(batch[tap].device)]

    def deviations(self, taps: Sequence[Tensor], numbers: Tensor) -> list[Tensor]:
        """Deviations of the taps of images, whole or spoiled, by the number `[B]` of the good image they come from."""
        found = [torch.empty_like(tap) for tap in taps]
        folds = self._fold[numbers]
        for fold in sorted(set(folds.tolist())):
            rows = (folds == fold).nonzero().flatten().to(taps[0].device)
            for whole, part in zip(found, self._without[fold]([tap[rows] for tap in taps]), strict=True):
                whole[rows] = part
        return found


def _length(deviations: Tensor) -> Tensor:
    """`[B, h, w]` of `[B, C, h, w]`: the root of the mean square."""
    return deviations.square().mean(1).add(1e-12).sqrt()
