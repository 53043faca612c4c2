"""Self-calibrated convolution: what a wide view of the map says decides what of the narrow view counts.

Liu, Hou, Cheng, Wang, Feng: Improving Convolutional Networks With Self-Calibrated Convolutions. CVPR 2020, section 3.1.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from inference.detectors.convolutions import conv_norm


class SelfCalibrated(nn.Module):
    """A convolution gated by another one on a coarser map; keeps size and channels.

    Args:
        channels: of the map.
        pooling: r, how many times coarser the wide view is.
    """

    def __init__(self, channels: int, pooling: int = 4) -> None:
        super().__init__()
        self.pooling = pooling
        self.wide = conv_norm(channels, channels, edge=3)
        self.narrow = conv_norm(channels, channels, edge=3)
        self.out = conv_norm(channels, channels, edge=3)

    def forward(self, x: Tensor) -> Tensor:
        """`[B, C, h, w]` of the same."""
        h, w = x.shape[2:]
        coarse = F.adaptive_avg_pool2d(x, (max(1, h // self.pooling), max(1, w // self.pooling)))
        gate = (x + F.interpolate(self.wide(coarse), size=(h, w), mode="nearest")).sigmoid()
        return F.relu(self.out(self.narrow(x) * gate))
