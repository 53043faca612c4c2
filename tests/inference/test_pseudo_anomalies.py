"""Pseudo-anomalies: something changes in any picture, it is masked exactly, and it follows from the generator."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from inference.detectors.pseudo_anomalies import KINDS, anomalies, cutpaste, scar
from inference.errors import InferenceError


@st.composite
def pictures(draw: st.DrawFn) -> NDArray[np.uint8]:
    """Noise, gradients, black, white and grey from 8 to 160 pixels, of any shape."""
    height, width = draw(st.integers(8, 160)), draw(st.integers(8, 160))
    kind = draw(st.sampled_from(["noise", "grey noise", "gradient", "constant"]))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    if kind == "noise":
        return rng.integers(0, 256, (height, width, 3), np.uint8)
    if kind == "grey noise":
        return rng.integers(0, 256, (height, width, 1), np.uint8).repeat(3, axis=2)
    if kind == "gradient":
        return np.broadcast_to(np.linspace(0, 255, width)[None, :, None], (height, width, 3)).astype(np.uint8)
    return np.full((height, width, 3), draw(st.sampled_from([0, 1, 128, 254, 255])), np.uint8)


@settings(max_examples=150, deadline=None)
@given(picture=pictures(), kind=st.sampled_from(KINDS), seed=st.integers(0, 10_000))
def test_the_mask_is_what_differs_and_never_empty(picture: NDArray[np.uint8], kind: str, seed: int) -> None:
    before = picture.copy()
    changed, mask = anomalies(picture, np.random.default_rng(seed), (kind,))
    assert changed.shape == picture.shape
    assert changed.dtype == np.uint8
    assert mask.dtype == np.bool_
    assert mask.any()
    np.testing.assert_array_equal(mask, (changed != picture).any(axis=-1))
    np.testing.assert_array_equal(picture, before)


@settings(max_examples=60, deadline=None)
@given(picture=pictures(), seed=st.integers(0, 10_000))
def test_equal_generators_make_equal_anomalies(picture: NDArray[np.uint8], seed: int) -> None:
    one, other = (anomalies(picture, np.random.default_rng(seed), KINDS) for _ in range(2))
    np.testing.assert_array_equal(one[0], other[0])
    np.testing.assert_array_equal(one[1], other[1])


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), height=st.integers(32, 160), width=st.integers(32, 160))
def test_a_pasted_rectangle_is_whole_and_of_the_papers_area(seed: int, height: int, width: int) -> None:
    picture = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    _, mask = cutpaste(picture, np.random.default_rng(seed))
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    box = (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
    assert 0.01 < box / mask.size < 0.17
    assert mask.sum() > 0.9 * box  # noise on noise: next to every pixel differs


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), side=st.sampled_from([64, 256]))
def test_a_scar_is_small_and_no_longer_than_it_may_be(seed: int, side: int) -> None:
    picture = np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)
    _, mask = scar(picture, np.random.default_rng(seed))
    rows, columns = np.nonzero(mask)
    assert max(np.ptp(rows), np.ptp(columns)) <= np.hypot(16, 25) * side / 256 + 2
    assert mask.sum() < 0.01 * mask.size


def test_confetti_covers_the_same_share_of_a_picture_of_any_size() -> None:
    def share(side: int) -> float:
        plain = np.full((side, side, 3), 200, np.uint8)
        rng = np.random.default_rng(0)
        return float(np.mean([anomalies(plain, rng, ("confetti",))[1].mean() for _ in range(300)]))

    small, large = share(32), share(128)
    assert 0.03 < large < 0.12
    assert small == pytest.approx(large, rel=0.35)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), kind=st.sampled_from(KINDS))
def test_a_grey_picture_stays_grey(seed: int, kind: str) -> None:
    picture = np.random.default_rng(seed).integers(0, 256, (48, 48, 1), np.uint8).repeat(3, axis=2)
    changed, _ = anomalies(picture, np.random.default_rng(seed), (kind,))
    assert np.ptp(changed, axis=2).max() == 0


def test_each_of_the_kinds_comes_up() -> None:
    rng = np.random.default_rng(0)
    shares = [anomalies(np.full((64, 64, 3), 90, np.uint8), rng)[1].mean() for _ in range(50)]
    assert len(set(shares)) > 10


def test_an_unknown_kind_names_the_known_ones() -> None:
    with pytest.raises(InferenceError, match="no pseudo-anomaly 'rust': choose from confetti, cutpaste, scar"):
        anomalies(np.zeros((32, 32, 3), np.uint8), np.random.default_rng(0), ("rust",))
