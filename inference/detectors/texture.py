"""Texture as statistics: how often each level of likeness occurs in a map, and which levels lie side by side.

STLNet: Zhu, Ji, Zhu, Gan, Wu, Yan: Learning Statistical Texture for Semantic Segmentation. CVPR 2021, arXiv
2103.04133.

Notation: K pixels of a map or region, N levels; likeness `M [K]` is the cosine of a pixel with the mean pixel, levels
`L [N]` divide its range evenly, and `E [N, K]` says how far each pixel belongs to each level.
"""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from inference.detectors.convolutions import Merge, conv_norm

Window = Literal["code", "paper"]
_TINY = 1e-6  # keeps the levels of an even map apart, and empty counts from being divided by


def likeness(values: Tensor, mean: Tensor) -> Tensor:
    """Cosine `[B, ...]` of pixels `[B, C, ...]` with means that broadcast to them; float32 in any surroundings."""
    values, mean = values.float(), mean.float()  # bfloat16 cannot tell 128 levels apart
    squares = values.square().sum(1) * mean.square().sum(1)
    return (values * mean).sum(1) / squares.clamp_min(_TINY**2).sqrt()


def quantise(values: Tensor, levels: int, window: Window) -> tuple[Tensor, Tensor]:
    """Levels `[..., N]` and belonging `[..., N, K]` of values `[..., K]`.

    Args:
        values: of the pixels.
        levels: N.
        window: which pixels belong to a level. `code`, as STLNet's authors run it: levels are the centres of N equal
            bins, and a pixel belongs to those less than one bin away: always to one, mostly to two. `paper`, as eq. (1)
            is printed: levels are the bins' right edges, and the window reaches 0.5/N to either side, whatever the
            range; the smallest values may belong to none.

    A pixel belongs to a level by one less its distance to it.
    """
    low, high = values.aminmax(dim=-1, keepdim=True)
    span = high - low + _TINY
    steps = torch.arange(levels, device=values.device, dtype=values.dtype)
    above = span * ((steps + (0.5 if window == "code" else 1.0)) / levels)  # [..., N], measured from the lowest value
    gap = above.unsqueeze(-1) - (values - low).unsqueeze(-2)  # [..., N, K]
    if window == "code":
        inside = gap.abs() < span.unsqueeze(-1) / levels
    else:
        inside = (gap >= -0.5 / levels) & (gap < 0.5 / levels)
    return low + above, torch.where(inside, 1 - gap.abs(), 0)


def shares(belonging: Tensor) -> Tensor:
    """Share `[..., N]` of each level in a map, of belonging `[..., N, K]`: eq. (2)."""
    counts = belonging.sum(-1)
    return counts / (counts.sum(-1, keepdim=True) + _TINY)


def cooccurrence(belonging: Tensor) -> Tensor:
    """How often level n lies right below (diagonally) level m: `[..., N, N]` of belonging `[..., N, h, w]`."""
    here, there = belonging[..., :-1, :-1].flatten(-2), belonging[..., 1:, 1:].flatten(-2)
    pairs = here @ there.mT
    return pairs / (pairs.sum((-2, -1), keepdim=True) + _TINY)


class TextureEnhancement(nn.Module):
    """TEM: hands each pixel a description of its levels, made of their shares in the map and of each other.

    Args:
        width: C, channels in and out; half as many inside.
        levels: N.
        window: see `quantise`.
    """

    def __init__(self, width: int, *, levels: int, window: Window) -> None:
        super().__init__()
        half = width // 2
        self.levels, self.window = levels, window
        self.reduce = nn.Sequential(conv_norm(width, width, edge=3), nn.LeakyReLU(), nn.Conv2d(width, half, 1))
        self.count = nn.Sequential(nn.Conv1d(2, half // 2, 1), nn.LeakyReLU(), nn.Conv1d(half // 2, half, 1), nn.ReLU())
        self.describe = nn.Sequential(nn.Conv1d(2 * half, half, 1, bias=False), nn.BatchNorm1d(half), nn.ReLU())
        self.query, self.key, self.value = (nn.Conv1d(half, half, 1) for _ in range(3))
        self.expand = nn.Sequential(nn.Conv1d(half, width, 1, bias=False), nn.BatchNorm1d(width), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        """`[B, C, h, w]` of the same."""
        reduced = self.reduce(x).flatten(2)  # [B, C/2, K]
        mean = reduced.mean(2, keepdim=True)
        at, belonging = quantise(likeness(reduced, mean), self.levels, self.window)  # [B, N], [B, N, K]
        statistics = self.count(torch.stack([at, shares(belonging)], dim=1))  # [B, C/2, N]
        described = self.describe(torch.cat([statistics, mean.expand_as(statistics)], dim=1))
        attention = (self.key(described).mT @ self.query(described)).softmax(-1)  # [B, N, N], rows look
        enhanced = self.expand(self.value(described) @ attention.mT)  # [B, C, N]
        handed: Tensor = enhanced @ belonging.to(enhanced.dtype)  # [B, C, K]
        return handed.view(*handed.shape[:2], *x.shape[2:])


class RegionTexture(nn.Module):
    """Texture of each region of a map: which levels lie side by side, and the mean pixel.

    Args:
        width: C, channels of the map; half as many come out.
        scale: r; the map is divided into r x r regions.
        levels: N.
        window: see `quantise`.
    """

    def __init__(self, width: int, scale: int, *, levels: int, window: Window) -> None:
        super().__init__()
        half = width // 2
        self.scale, self.levels, self.window = scale, levels, window
        self.pair = nn.Sequential(nn.Conv2d(3, half // 2, 1), nn.LeakyReLU(), nn.Conv2d(half // 2, half, 1), nn.ReLU())
        # One convolution of the concatenation [pair; mean] is the sum of these, and the mean is the same in all cells.
        self.of_pair = nn.Conv2d(half, half, 1, bias=False)
        self.of_mean = nn.Conv2d(width, half, 1, bias=False)
        self.mix = nn.Sequential(nn.BatchNorm2d(half), nn.ReLU(), conv_norm(half, half), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        """`[B, C/2, r, r]` of a map `[B, C, h, w]`, which is enlarged a little where r does not divide its size."""
        r, n = self.scale, self.levels
        p, q = (-(-length // r) for length in x.shape[2:])
        if x.shape[2:] != (r * p, r * q):
            x = F.interpolate(x, size=(r * p, r * q), mode="bilinear")
        regions = x.reshape(*x.shape[:2], r, p, r, q)
        mean = regions.mean((3, 5), keepdim=True)
        alike = likeness(regions, mean).transpose(2, 3).flatten(0, 2)  # [R, p, q], R = B r r
        at, belonging = quantise(alike.flatten(1), n, self.window)  # [R, N], [R, N, p q]
        pairs = cooccurrence(belonging.view(-1, n, p, q))  # [R, N, N]
        cells = torch.stack([at[:, :, None].expand_as(pairs), at[:, None, :].expand_as(pairs), pairs], dim=1)
        mean = mean.squeeze((3, 5)).permute(0, 2, 3, 1).flatten(0, 2)[:, :, None, None]  # [R, C, 1, 1]
        mixed: Tensor = self.mix(self.of_pair(self.pair(cells)) + self.of_mean(mean))
        return mixed.mean((2, 3)).view(-1, r, r, mixed.shape[1]).permute(0, 3, 1, 2)


class PyramidTexture(nn.Module):
    """PTFEM: textures of regions of several sizes, laid out over the map.

    Args:
        channels: of the map.
        width: C, channels of the result.
        scales: regions along one side, for each branch.
        levels: N.
        window: see `quantise`.
    """

    def __init__(self, channels: int, width: int, scales: Sequence[int], *, levels: int, window: Window) -> None:
        super().__init__()
        self.reduce = nn.Sequential(conv_norm(channels, width), nn.ReLU())
        self.branches = nn.ModuleList(RegionTexture(width, r, levels=levels, window=window) for r in scales)
        self.merge = Merge([width // 2] * len(scales), width)

    def forward(self, x: Tensor) -> Tensor:
        """`[B, C, h, w]` of a map `[B, channels, h, w]`."""
        reduced = self.reduce(x)
        merged: Tensor = self.merge([branch(reduced) for branch in self.branches], x.shape[2:])
        return merged
