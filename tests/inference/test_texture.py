"""The texture operators against loops written from the equations."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from inference.detectors.calibrated import SelfCalibrated
from inference.detectors.convolutions import Merge
from inference.detectors.texture import (
    PyramidTexture,
    RegionTexture,
    TextureEnhancement,
    Window,
    cooccurrence,
    likeness,
    quantise,
    shares,
)

WINDOWS: tuple[Window, ...] = ("code", "paper")


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def slowly(values: NDArray[np.float32], levels: int, window: Window) -> tuple[list[float], list[list[float]]]:
    """Equation (1), for one map."""
    low, high = float(values.min()), float(values.max()) + 1e-6
    found, at = [], []
    for n in range(1, levels + 1):
        level = (high - low) / levels * (n if window == "paper" else n - 0.5) + low
        row = []
        for value in values.tolist():
            gap = level - value
            reach = abs(gap) < (high - low) / levels if window == "code" else -0.5 / levels <= gap < 0.5 / levels
            row.append(1 - abs(gap) if reach else 0.0)
        at.append(level)
        found.append(row)
    return at, found


@pytest.mark.parametrize("window", WINDOWS)
def test_quantisation_and_counting_as_in_equations_1_and_2(window: Window) -> None:
    values = torch.cat([random(3, 40).tanh(), 0.9 + 0.05 * random(1, 40).tanh()])
    at, belonging = quantise(values, 16, window)
    for values_, at_, belonging_, shares_ in zip(values, at, belonging, shares(belonging), strict=True):
        levels, rows = slowly(values_.numpy(), 16, window)
        np.testing.assert_allclose(at_, levels, atol=1e-6)
        np.testing.assert_allclose(belonging_, rows, atol=1e-5)
        np.testing.assert_allclose(shares_, np.sum(rows, 1) / np.sum(rows), atol=1e-5)


@given(seed=st.integers(0, 2**32 - 1), levels=st.integers(2, 128), spread=st.sampled_from([0.0, 1e-7, 1e-3, 1.0]))
@settings(max_examples=60, deadline=None)
def test_with_window_code_every_pixel_has_a_level(seed: int, levels: int, spread: float) -> None:
    at, belonging = quantise(0.5 + spread * random(2, 50, seed=seed).tanh() / 2, levels, "code")
    assert bool((belonging.sum(1) > 0.4).all())  # [B, K]
    assert bool(((belonging > 0).sum(1) <= 2).all())
    assert bool(at.isfinite().all())


def test_likeness_is_the_cosine() -> None:
    values = random(2, 5, 7)
    mean = values.mean(2, keepdim=True)
    expected = torch.nn.functional.cosine_similarity(values, mean, dim=1)
    torch.testing.assert_close(likeness(values, mean), expected)
    assert likeness(values.bfloat16(), mean.bfloat16()).dtype == torch.float32
    assert bool((likeness(torch.zeros(1, 5, 7), torch.zeros(1, 5, 1)) == 0).all())


def test_cooccurrence_counts_diagonal_neighbours() -> None:
    belonging = random(2, 3, 4, 5).abs()
    for counted, e in zip(cooccurrence(belonging), belonging.numpy(), strict=True):
        expected = np.zeros((3, 3))
        for m in range(3):
            for n in range(3):
                for y in range(3):
                    for x in range(4):
                        expected[m, n] += e[m, y, x] * e[n, y + 1, x + 1]
        np.testing.assert_allclose(counted, expected / expected.sum(), rtol=1e-4)
    assert bool((cooccurrence(torch.ones(1, 3, 1, 1)) == 0).all())  # a region of one pixel has no neighbours


def test_regions_are_described_from_their_own_pixels_alone() -> None:
    branch = RegionTexture(8, 2, levels=4, window="code").eval()
    x = random(1, 8, 8, 12)
    before = branch(x)
    assert before.shape == (1, 4, 2, 2)
    x[:, :, :4, :6] = random(1, 8, 4, 6, seed=1)
    changed = (branch(x) != before).any(1)[0]
    assert changed.tolist() == [[True, False], [False, False]]


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("size", [(16, 16), (7, 9)])
def test_modules_keep_the_size_and_have_finite_gradients(window: Window, size: tuple[int, int]) -> None:
    for module, channels in (
        (TextureEnhancement(8, levels=16, window=window), 8),
        (PyramidTexture(16, 8, (1, 2, 4, 8), levels=8, window=window), 16),
        (SelfCalibrated(8), 8),
    ):
        for x in (random(2, channels, *size), torch.ones(2, channels, *size), torch.zeros(2, channels, *size)):
            x.requires_grad_()
            out = module(x)
            assert out.shape == (2, 8, *size)
            out.square().sum().backward()
            assert x.grad is not None
            assert bool(x.grad.isfinite().all())


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (16, 16), (18, 13)])
def test_self_calibrated_convolution_takes_any_size(size: tuple[int, int]) -> None:
    assert SelfCalibrated(4).eval()(random(2, 4, *size)).shape == (2, 4, *size)


def test_merge_is_a_convolution_of_the_concatenation() -> None:
    merge = Merge([3, 5], 4).eval()
    fine, coarse = random(2, 3, 8, 8), random(2, 5, 4, 4)
    enlarged = torch.nn.functional.interpolate(coarse, size=(8, 8), mode="bilinear")
    weights = torch.cat([mix.get_parameter("weight") for mix in merge.mix], dim=1)
    plain = torch.nn.functional.conv2d(torch.cat([fine, enlarged], dim=1), weights)
    torch.testing.assert_close(merge([fine, coarse]), merge.norm(plain).relu(), rtol=1e-4, atol=1e-5)
