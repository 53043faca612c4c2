"""One multivariate Gaussian per cell of a grid, learned in one pass.

Notation: `cells` positions, `d` dimensions, `n` samples seen. Means and scatters `M2 = sum (x - mean)(x - mean)^T`
are merged batch by batch (Chan, Golub and LeVeque 1979): exact, independent of the order, in memory that does not
grow with n. A symmetric or triangular `[cells, d, d]` is kept as blocks of columns of its upper half: block k holds
rows 0 to b of columns a to b, so that d=100 takes 62 % and d=550 56 % of the full square.

Precision: scatters in float32 agree with numpy's float64 covariance to about 1e-6 of the largest variance (they are
centred before they are summed); means are kept and factors computed in float64.

Both ways: `Gaussians.fit` takes moments and keeps factors only, `Gaussians.moments` takes the factors apart again, so
that what was learned can be merged with what comes later. With a half-life h, a sample seen k samples ago weighs
`2^(-k/h)`, and n is the sum of the weights.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from inference.errors import FitError

_MAX_BLOCKS = 8  # more would save little memory and cost a matrix product each
_MIN_WIDTH = 25
_CHUNK_BYTES = 32 << 20  # of one float64 [chunk, d, d]; a few live at once


def column_blocks(dimensions: int) -> list[tuple[int, int]]:
    """First and last-plus-one column of each block of the upper half of a `d x d` matrix."""
    width = max(_MIN_WIDTH, -(-dimensions // _MAX_BLOCKS))
    return [(a, min(a + width, dimensions)) for a in range(0, dimensions, width)]


class Moments:
    """Running count, mean and scatter of vectors at each cell.

    Attributes:
        count: samples seen, the same at every cell; with a half-life, the sum of their weights.
        mean: `[cells, d]` float64.
        scatter: blocks `[cells, b, b - a]` float32, see `column_blocks`.
    """

    def __init__(self, cells: int, dimensions: int, device: torch.device | str = "cpu") -> None:
        self.count = 0.0
        self.mean = torch.zeros(cells, dimensions, dtype=torch.float64, device=device)
        self.scatter = [torch.zeros(cells, b, b - a, device=device) for a, b in column_blocks(dimensions)]

    def update(self, values: Tensor, half_life: float | None = None) -> None:
        """Take in a batch `[cells, B, d]` of floats; with a half-life in samples, B is their order, oldest first."""
        size = values.shape[1]
        if size == 0:
            return
        keep = 1.0 if half_life is None else 0.5 ** (1 / half_life)  # of a weight, when another sample comes
        weights = keep ** torch.arange(size - 1, -1, -1, dtype=torch.float64, device=self.mean.device)  # [B]
        old, new = self.count * keep**size, float(weights.sum())
        mean = (values.mT.double() @ weights) / new  # [cells, d]
        shift = (mean - self.mean) * (old * new / (old + new)) ** 0.5
        centred = (values - mean.unsqueeze(1)) * weights.sqrt().unsqueeze(1)
        rows = torch.cat([centred, shift.unsqueeze(1)], dim=1).float()  # [cells, B + 1, d]
        for (a, b), block in zip(column_blocks(self.mean.shape[1]), self.scatter, strict=True):
            block.baddbmm_(rows[:, :, :b].mT, rows[:, :, a:b], beta=keep**size)
        self.count = old + new
        self.mean += (mean - self.mean) * (new / self.count)

    def chunks(self) -> Iterator[slice]:
        """Cut the cells into pieces whose matrices are small beside the whole."""
        cells, d = self.mean.shape
        size = max(1, _CHUNK_BYTES // (8 * d * d))
        return (slice(first, min(first + size, cells)) for first in range(0, cells, size))

    def covariance(self, cells: slice = slice(None), epsilon: float = 0.0) -> Tensor:
        """Unbiased covariance plus `epsilon` on the diagonal, `[chunk, d, d]` float64.

        Raises:
            FitError: fewer than two samples.
        """
        if self.count <= 1:
            raise FitError(f"a covariance needs at least 2 samples, got {self.count:g}")
        upper = _square(self.scatter, cells)
        covariance = (upper.triu() + upper.triu(1).mT) / (self.count - 1)
        covariance.diagonal(dim1=-2, dim2=-1).add_(epsilon)
        return covariance


def merge(first: Moments, second: Moments) -> Moments:
    """Combine two accumulators of the same grid as if one had seen all samples; neither is changed."""
    cells, d = first.mean.shape
    both = Moments(cells, d, first.mean.device)
    both.count = first.count + second.count
    if both.count == 0:
        return both
    delta = second.mean - first.mean
    both.mean = first.mean + delta * (second.count / both.count)
    shift = (delta * (first.count * second.count / both.count) ** 0.5).float()
    for (a, b), one, two, block in zip(column_blocks(d), first.scatter, second.scatter, both.scatter, strict=True):
        torch.add(one, two, out=block)
        block.baddbmm_(shift[:, :b, None], shift[:, None, a:b])
    return both


def _square(blocks: list[Tensor], cells: slice) -> Tensor:
    """`[chunk, d, d]` float64 of blocks of columns, with zeros below them."""
    d = blocks[-1].shape[1]
    square = torch.zeros(blocks[0][cells].shape[0], d, d, dtype=torch.float64, device=blocks[0].device)
    for (a, b), block in zip(column_blocks(d), blocks, strict=True):
        square[:, :b, a:b] = block[cells]
    return square


class Gaussians(nn.Module):
    """Squared Mahalanobis distances at every cell, by whitening: `||L^-1 (x - mean)||^2` with `L L^T` the covariance.

    `L^-1` is applied as a product from the right, `(x - mean)^T L^-T`: measured at 64x64 cells, d=100 on two threads,
    4 ms for one image and 7 ms for eight, against 14 and 15 ms for the full `L^-1 x`, and 13 and 26 ms for a triangular
    solve. What is read decides, so only the upper half of `L^-T` is stored.

    Attributes:
        mean: `[cells, d]`.
        count: samples they were learned from, a scalar in float64; 0: not known, as in models saved before it was kept.
    """

    mean: Tensor
    count: Tensor

    def __init__(self, cells: int, dimensions: int) -> None:
        super().__init__()
        self.blocks = column_blocks(dimensions)
        self.register_buffer("mean", torch.full((cells, dimensions), torch.nan))
        for index, (a, b) in enumerate(self.blocks):
            self.register_buffer(f"whitening_{index}", torch.empty(cells, b, b - a))
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))
        self.register_load_state_dict_pre_hook(_count_unknown)  # type: ignore[no-untyped-call]  # torch's own

    def whitening(self) -> list[Tensor]:
        """Blocks `[cells, b, b - a]` of the upper half of `L^-T`."""
        return [self.get_buffer(f"whitening_{index}") for index in range(len(self.blocks))]

    def fit(self, moments: Moments, epsilon: float) -> None:
        """Factorise the covariances of `moments`, with `epsilon` added to their diagonals.

        Raises:
            FitError: fewer than two samples, or a covariance that is not positive definite. Cells come in turn; each
                is then either as it was or as it should be.
        """
        identity = torch.eye(self.mean.shape[1], dtype=torch.float64, device=moments.mean.device)
        for cells in moments.chunks():
            factor, failed = torch.linalg.cholesky_ex(moments.covariance(cells, epsilon))
            if bool(failed.any()) or not bool(factor.isfinite().all()):
                raise FitError(
                    f"the covariance of {moments.count:g} samples plus epsilon {epsilon:g} is not positive definite: "
                    "raise epsilon or fit on more images"
                )
            whitening = torch.linalg.solve_triangular(factor, identity.expand_as(factor), upper=False).mT
            for (a, b), block in zip(self.blocks, self.whitening(), strict=True):
                block[cells] = whitening[:, :b, a:b]
            self.mean[cells] = moments.mean[cells].float()
        self.count.fill_(moments.count)

    def moments(self, epsilon: float, samples: int = 0) -> Moments:
        """What `fit` was given, to float32's precision: `L^T` is the inverse of the whitening, and `L L^T` the rest.

        Args:
            epsilon: what `fit` was given.
            samples: how many there were, in case the model does not know it; 0: that is not known either.

        Raises:
            FitError: it is not known how many samples there were.
        """
        count = float(self.count) or float(samples)
        if count == 0:
            raise FitError("the model does not say how many images it was fitted on, as older ones do not: fit it anew")
        cells, d = self.mean.shape
        moments = Moments(cells, d, self.mean.device)
        moments.count = count
        moments.mean.copy_(self.mean)
        identity = torch.eye(d, dtype=torch.float64, device=self.mean.device)
        for part in moments.chunks():
            factor = torch.linalg.solve_triangular(_square(self.whitening(), part), identity, upper=True)  # L^T
            scatter = (factor.mT @ factor - epsilon * identity) * (count - 1)
            for (a, b), block in zip(self.blocks, moments.scatter, strict=True):
                block[part] = scatter[:, :b, a:b]
        return moments

    def whiten(self, values: Tensor) -> Tensor:
        """`L^-1 (x - mean)` of vectors `[cells, B, d]`, of the same shape: their squared length is the distance."""
        centred = values - self.mean.unsqueeze(1)
        parts = [
            torch.bmm(centred[:, :, :b], block) for (_, b), block in zip(self.blocks, self.whitening(), strict=True)
        ]
        return torch.cat(parts, dim=2)

    def forward(self, values: Tensor) -> Tensor:
        """Squared distances `[cells, B]` of vectors `[cells, B, d]`."""
        centred = values - self.mean.unsqueeze(1)
        squared = centred.new_zeros(centred.shape[:2])
        for (_, b), block in zip(self.blocks, self.whitening(), strict=True):
            squared += torch.bmm(centred[:, :, :b], block).square_().sum(2)
        return squared


def _count_unknown(_module: nn.Module, state: dict[str, Any], prefix: str, *_: object) -> None:
    """Let models load that were saved before their count was kept."""
    state.setdefault(f"{prefix}count", torch.zeros((), dtype=torch.float64))
