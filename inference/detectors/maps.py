"""From a coarse grid of distances to an anomaly map of the image's size.

Upsampling and Gaussian smoothing are linear and separable, so along each axis the two together are one matrix
`[pixels, cells]`, built once: a map is `rows @ grid @ columns^T`, some microseconds instead of milliseconds.
"""

from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

Interpolation = Literal["nearest", "bilinear", "bicubic"]

_TRUNCATE = 4.0  # standard deviations at which the kernel ends, as scipy.ndimage.gaussian_filter has it


def smoothing_matrix(length: int, sigma: float) -> Tensor:
    """Gaussian smoothing of a line of pixels as a matrix `[length, length]` float64.

    Args:
        length: pixels.
        sigma: standard deviation in pixels; 0 does nothing.

    Borders are mirrored about the edge of the last pixel (`d c b a | a b c d | d c b a`), the kernel reaches
    4 sigma: the defaults of `scipy.ndimage.gaussian_filter`.
    """
    if sigma == 0:
        return torch.eye(length, dtype=torch.float64)
    radius = int(_TRUNCATE * sigma + 0.5)
    offsets = np.arange(-radius, radius + 1)
    kernel = np.exp(-0.5 * (offsets / sigma) ** 2)
    kernel /= kernel.sum()
    pixels = np.arange(length)
    source = (pixels[:, None] + offsets) % (2 * length)  # the mirrored line repeats every 2 * length
    source = np.minimum(source, 2 * length - 1 - source)
    matrix = np.zeros((length, length))
    np.add.at(matrix, (np.broadcast_to(pixels[:, None], source.shape), source), kernel)
    return torch.from_numpy(matrix)


def upsampling_matrix(cells: int, pixels: int, interpolation: Interpolation) -> Tensor:
    """Interpolation along a line, corners not aligned, as a matrix `[pixels, cells]` float64."""
    identity = torch.eye(cells, dtype=torch.float64)[None, None]
    corners = None if interpolation == "nearest" else False
    return F.interpolate(identity, size=(pixels, cells), mode=interpolation, align_corners=corners)[0, 0]


class MapMaker(nn.Module):
    """Upsamples grids to the image's size and smooths them; has no state to save.

    Args:
        grid: height and width in cells.
        size: height and width of the map in pixels.
        sigma: standard deviation of the smoothing, in pixels of the map.
        interpolation: how values between cells are found.
    """

    rows: Tensor
    columns: Tensor

    def __init__(
        self, grid: tuple[int, int], size: tuple[int, int], *, sigma: float, interpolation: Interpolation
    ) -> None:
        super().__init__()
        for name, cells, pixels in zip(("rows", "columns"), grid, size, strict=True):
            matrix = smoothing_matrix(pixels, sigma) @ upsampling_matrix(cells, pixels, interpolation)
            self.register_buffer(name, matrix.float(), persistent=False)

    def forward(self, grids: Tensor) -> Tensor:
        """Maps `[B, H, W]` float32 of grids `[B, h, w]`."""
        return self.rows @ grids @ self.columns.mT
