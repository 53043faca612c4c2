"""ResNet-18's convolutions and their mirror image, to be trained from the first step.

He, Zhang, Ren, Sun: Deep residual learning for image recognition. CVPR 2016, arXiv 1512.03385, table 1. The mirror
takes the stages in reverse and has a transposed convolution wherever the encoder has a stride, twice as wide as the
stride, so that each pixel made is covered equally often.
"""

from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

STRIDE = 32
"""Pixels of the image beside a cell of the encoder's output."""

_STAGES = (1, 2, 4, 8)  # channels, in multiples of the width
_BLOCKS = 2  # in each stage


class Encoder(nn.Sequential):
    """Features `[B, 8 * width, ceil(H / 32), ceil(W / 32)]` of images `[B, 3, H, W]`; ResNet-18's width is 64."""

    def __init__(self, width: int) -> None:
        layers: list[nn.Module] = [
            nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.MaxPool2d(3, stride=2, padding=1),
        ]
        before = width
        for stage, factor in enumerate(_STAGES):
            channels = factor * width
            layers.append(Down(before, channels, stride=1 if stage == 0 else 2))
            layers += [Down(channels, channels) for _ in range(_BLOCKS - 1)]
            before = channels
        super().__init__(*layers)


class Decoder(nn.Sequential):
    """Images `[B, 3, 32 * h, 32 * w]` in (0, 1) of features `[B, 8 * width, h, w]`."""

    def __init__(self, width: int) -> None:
        layers: list[nn.Module] = []
        for stage, factor in reversed(list(enumerate(_STAGES))):
            channels = factor * width
            layers += [Up(channels, channels) for _ in range(_BLOCKS - 1)]
            layers.append(Up(channels, channels if stage == 0 else channels // 2, stride=1 if stage == 0 else 2))
        layers += [
            nn.Upsample(scale_factor=2),  # where the encoder pools
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.ConvTranspose2d(width, 3, 8, stride=2, padding=3),
            nn.Sigmoid(),
        ]
        super().__init__(*layers)


class Down(nn.Module):
    """A basic block: two 3x3 convolutions beside a shortcut."""

    def __init__(self, channels: int, out: int, stride: int = 1) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, out, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(out),
            nn.ReLU(),
            nn.Conv2d(out, out, 3, padding=1, bias=False),
            nn.BatchNorm2d(out),
        )
        self.shortcut = nn.Identity() if channels == out and stride == 1 else _linear(channels, out, stride)

    def forward(self, x: Tensor) -> Tensor:
        """`[B, out, h', w']` of `[B, channels, h, w]`."""
        return F.relu(cast("Tensor", self.body(x)) + self.shortcut(x))


class Up(nn.Module):
    """A basic block seen in a mirror; with a stride, its output is larger by it."""

    def __init__(self, channels: int, out: int, stride: int = 1) -> None:
        super().__init__()
        grow: nn.Module = nn.Conv2d(channels, out, 3, padding=1, bias=False)
        if stride > 1:
            grow = nn.ConvTranspose2d(channels, out, 2 * stride, stride=stride, padding=stride // 2, bias=False)
        self.body = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            grow,
            nn.BatchNorm2d(out),
        )
        shortcut = nn.Identity() if channels == out else _linear(channels, out, 1)
        self.shortcut = shortcut if stride == 1 else nn.Sequential(shortcut, nn.Upsample(scale_factor=stride))

    def forward(self, x: Tensor) -> Tensor:
        """`[B, out, h', w']` of `[B, channels, h, w]`."""
        return F.relu(cast("Tensor", self.body(x)) + self.shortcut(x))


def _linear(channels: int, out: int, stride: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, out, 1, stride=stride, bias=False), nn.BatchNorm2d(out))
