"""Two small blocks that networks on feature maps are made of."""

from collections.abc import Sequence
from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def conv_norm(channels: int, out: int, *, edge: int = 1) -> nn.Sequential:
    """Convolution that keeps the map's size, then batch normalisation (which brings the bias)."""
    return nn.Sequential(nn.Conv2d(channels, out, edge, padding=edge // 2, bias=False), nn.BatchNorm2d(out))


class Merge(nn.Module):
    """Maps of several sizes, brought to one, concatenated and mixed by a 1x1 convolution; then BN, ReLU.

    Each map is convolved before it is brought to size, and the results are added: both steps are linear, so that it is
    the same function, for a sixteenth of the work where a map is four times coarser.

    Args:
        channels: of each map.
        out: channels of the result.
    """

    def __init__(self, channels: Sequence[int], out: int) -> None:
        super().__init__()
        self.mix = nn.ModuleList(nn.Conv2d(c, out, 1, bias=False) for c in channels)
        self.norm = nn.BatchNorm2d(out)

    def forward(self, maps: Sequence[Tensor], size: Sequence[int] | None = None) -> Tensor:
        """`[B, out, h, w]` of maps `[B, C_i, h_i, w_i]`; h and w are `size`, else those of the first map."""
        size = list(maps[0].shape[2:] if size is None else size)
        mixed = [mix(x) for mix, x in zip(self.mix, maps, strict=True)]
        sized = [x if list(x.shape[2:]) == size else F.interpolate(x, size=size, mode="bilinear") for x in mixed]
        return F.relu(self.norm(reduce(torch.add, sized)))
