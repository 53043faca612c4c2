"""Upsampling and smoothing against scipy and torch."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter, gaussian_filter1d

from inference.detectors.maps import Interpolation, MapMaker, smoothing_matrix


@settings(max_examples=80, deadline=None)
@given(length=st.integers(1, 70), sigma=st.floats(0.1, 12), seed=st.integers(0, 1000))
def test_smoothing_is_scipys_also_where_the_kernel_outgrows_the_line(length: int, sigma: float, seed: int) -> None:
    line = np.random.default_rng(seed).standard_normal(length)
    found = smoothing_matrix(length, sigma).numpy() @ line
    np.testing.assert_allclose(found, gaussian_filter1d(line, sigma), atol=1e-12)


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic"])
@pytest.mark.parametrize(("grid", "size"), [((16, 16), (64, 64)), ((7, 13), (50, 97)), ((9, 9), (9, 9))])
def test_a_map_is_torchs_interpolation_then_scipys_filter(
    interpolation: Interpolation, grid: tuple[int, int], size: tuple[int, int]
) -> None:
    grids = torch.rand(3, *grid, generator=torch.Generator().manual_seed(0))
    corners = None if interpolation == "nearest" else False
    upsampled = F.interpolate(grids[:, None].double(), size=size, mode=interpolation, align_corners=corners)[:, 0]
    found = MapMaker(grid, size, sigma=4.0, interpolation=interpolation)(grids)
    assert found.shape == (3, *size)
    assert found.dtype == torch.float32
    for each, expected in zip(found, upsampled, strict=True):
        np.testing.assert_allclose(each.numpy(), gaussian_filter(expected.numpy(), 4.0), atol=1e-6)


def test_without_sigma_only_the_size_changes() -> None:
    grids = torch.rand(1, 4, 4)
    found = MapMaker((4, 4), (8, 8), sigma=0, interpolation="nearest")(grids)
    torch.testing.assert_close(found, grids.repeat_interleave(2, 1).repeat_interleave(2, 2))


def test_a_constant_grid_stays_constant_and_nothing_is_saved() -> None:
    maker = MapMaker((5, 6), (40, 48), sigma=3.0, interpolation="bicubic")
    torch.testing.assert_close(maker(torch.full((1, 5, 6), 2.5)), torch.full((1, 40, 48), 2.5))
    assert not maker.state_dict()
