"""An invertible map from features to a Gaussian, whose blocks pass information along a chain of channel groups.

Notation: `B` images, `C` channels, `h, w` the grid; `s` sub-features, the groups `x_1 … x_s` of c = C/s channels (some
a channel wider where s does not divide C); `K` blocks. One block is a fixed permutation of the channels followed by the
hierarchical perception module::

    y_1 = x_1,  m_1 = 0
    m_i = F_i(y_{i-1}) + m_{i-1}                    F_i: 1x1 convolution, the fusion level by level
    h_i = LeakyReLU_0.1(conv_{k x k}(m_i))          c -> hidden
    [a_i, t_i] = gamma_i · conv_{1x1}(h_i)          hidden -> 2c
    y_i = x_i · exp(sigma_i) + t_i,   sigma_i = clamp · 2/pi · atan(a_i / clamp)            i = 2 … s

y_i sees the cells within (i-1)(k-1)/2 of its own: the groups of one block have receptive fields of several sizes, on
one grid, and no weight joins two groups that are not neighbours.

The laws, for every module here with `forward(x) -> (y, log_det)`:

- `inverse(forward(x)) == x`, as exactly as floats allow, unless an output had to be cut at ±1e6;
- `log_det == log |det dy/dx| = sum of all sigma`, `[B]`: the Jacobian is a permutation times a triangle, for y_i
  depends on x_i element by element and otherwise on y_1 … y_{i-1} alone;
- so `log p(x) = log N(y; 0, I) + log_det` is the log-density of images whose y are standard normal.

Since gamma is 0 at first, an untrained block is its permutation.

Source: MS-Flow, Acta Automatica Sinica 2024, doi 10.16383/j.aas.c230476, of which the channel groups, their level-by-
level fusion, the numbers of parameters (table 6) and operations (table 4) are known; what was chosen to match them is
in docs/decisions/msflow-architecture.md. Affine coupling: Dinh et al., arXiv 1605.08803; permutations, clamp and gamma
as in CS-Flow, arXiv 2110.02855.
"""

from collections.abc import Sequence
from itertools import pairwise
from math import pi
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from inference.errors import InferenceError

_LARGEST = 1e6  # of an output: its square is still a float32
_SLOPE = 0.1


def group_sizes(channels: int, subfeatures: int) -> list[int]:
    """Channels of each sub-feature, as equal as can be; the first, which passes unchanged, is none of the wider ones.

    Raises:
        InferenceError: there are fewer channels than sub-features, or no second sub-feature to change.
    """
    if not 2 <= subfeatures <= channels:
        raise InferenceError(f"{channels} channels make no {subfeatures} sub-features: choose 2 to {channels}")
    width, wider = divmod(channels, subfeatures)
    return [width] + [width + 1] * wider + [width] * (subfeatures - 1 - wider)


class Level(nn.Module):
    """Scale and shift of one sub-feature, from the ones before it in the chain."""

    def __init__(self, before: int, channels: int, *, hidden: int, kernel: int, clamp: float) -> None:
        super().__init__()
        self.channels, self.clamp = channels, clamp
        self.fuse = nn.Conv2d(before, channels, 1)
        self.perceive = nn.Conv2d(channels, hidden, kernel, padding=kernel // 2)
        self.affine = nn.Conv2d(hidden, 2 * channels, 1)
        self.gamma = nn.Parameter(torch.zeros(()))

    def forward(self, before: Tensor, memory: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """sigma, t and m `[B, c, h, w]`, of `y_{i-1}` and of `m_{i-1}` (None: the chain begins).

        The convolutions may run in a lower precision; sigma and t are of the type of `before`.
        """
        fused = self.fuse(before)
        if memory is not None:
            fused = fused + memory[:, : self.channels]  # where there is a memory, it is as wide or wider
        hidden = F.leaky_relu(self.perceive(fused), _SLOPE)
        raw, shift = (self.gamma * self.affine(hidden).to(before.dtype)).chunk(2, dim=1)
        return self.clamp * (2 / pi) * torch.atan(raw / self.clamp), shift, fused


class ChainBlock(nn.Module):
    """A permutation and the chain of s - 1 levels.

    Args:
        channels: C.
        subfeatures: s.
        hidden: channels inside a level, the same for every s.
        kernel: edge of the level's window in cells, odd.
        clamp: bound of |sigma|.

    The permutation is drawn from torch's generator, like the initial weights, and is part of the state.
    """

    permutation: Tensor

    def __init__(self, channels: int, *, subfeatures: int, hidden: int, kernel: int, clamp: float) -> None:
        super().__init__()
        self.sizes = group_sizes(channels, subfeatures)
        self.register_buffer("permutation", torch.randperm(channels))
        self.levels = nn.ModuleList(
            Level(before, here, hidden=hidden, kernel=kernel, clamp=clamp) for before, here in pairwise(self.sizes)
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map x `[B, C, h, w]` to y of the same shape and `log |det dy/dx|` `[B]`."""
        first, *rest = torch.split(x[:, self.permutation], self.sizes, dim=1)
        done, memory = [first], None
        log_det = x.new_zeros(x.shape[0])
        for level, group in zip(self.levels, rest, strict=True):
            sigma, shift, memory = level(done[-1], memory)
            done.append(group * sigma.exp() + shift)
            log_det = log_det + sigma.sum(dim=(1, 2, 3))
        return torch.cat(done, dim=1).clamp(-_LARGEST, _LARGEST), log_det

    def inverse(self, y: Tensor) -> Tensor:
        """Find the x of a y."""
        groups = torch.split(y, self.sizes, dim=1)
        found, memory = [groups[0]], None
        for level, (before, group) in zip(self.levels, pairwise(groups), strict=True):
            sigma, shift, memory = level(before, memory)
            found.append((group - shift) * (-sigma).exp())
        return torch.cat(found, dim=1)[:, self.permutation.argsort()]


class ChainFlow(nn.Module):
    """K blocks, one for each kernel size given; the other arguments are those of `ChainBlock`."""

    def __init__(
        self, channels: int, *, subfeatures: int, hidden: int, kernels: Sequence[int], clamp: float = 3.0
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            ChainBlock(channels, subfeatures=subfeatures, hidden=hidden, kernel=kernel, clamp=clamp)
            for kernel in kernels
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map features x `[B, C, h, w]` to z of the same shape and `log |det dz/dx|` `[B]`."""
        log_det = x.new_zeros(x.shape[0])
        for block in self.blocks:
            x, more = block(x)
            log_det = log_det + more
        return x, log_det

    def inverse(self, z: Tensor) -> Tensor:
        """Find the features of a z."""
        for block in reversed(self.blocks):
            z = cast("ChainBlock", block).inverse(z)
        return z
