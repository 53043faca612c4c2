"""The one-pass statistics against numpy in float64."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.detectors.gaussians import Gaussians, Moments, column_blocks, merge
from inference.errors import FitError

CELLS = 3


def learn(samples: np.ndarray, splits: list[int], dimensions: int) -> Moments:
    moments = Moments(CELLS, dimensions)
    for batch in np.split(samples, splits, axis=1):
        moments.update(torch.from_numpy(batch))
    return moments


@st.composite
def streams(draw: st.DrawFn) -> tuple[np.ndarray, list[int], int]:
    """Samples `[cells, n, d]` float32 with an offset, and where the stream is cut into batches."""
    n = draw(st.integers(2, 40))
    d = draw(st.sampled_from([1, 2, 7, 26, 60]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    offset = draw(st.sampled_from([0.0, 3.0, 100.0]))
    samples = (rng.standard_normal((CELLS, n, d)) + offset).astype(np.float32)
    splits = sorted(draw(st.lists(st.integers(0, n), max_size=5)))
    return samples, splits, d


@settings(max_examples=60, deadline=None)
@given(streams())
def test_any_batching_gives_numpys_mean_and_covariance(stream: tuple[np.ndarray, list[int], int]) -> None:
    samples, splits, d = stream
    moments = learn(samples, splits, d)
    exact = samples.astype(np.float64)
    assert moments.count == samples.shape[1]
    np.testing.assert_allclose(moments.mean.numpy(), exact.mean(1), rtol=1e-12, atol=1e-12)
    for cell in range(CELLS):
        expected = np.cov(exact[cell], rowvar=False).reshape(d, d)
        found = moments.covariance(slice(cell, cell + 1))[0].numpy()
        np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6 * np.abs(expected).max())
        np.testing.assert_array_equal(found, found.T)


@settings(max_examples=30, deadline=None)
@given(streams(), st.data())
def test_merging_equals_having_seen_all_in_either_order(
    stream: tuple[np.ndarray, list[int], int], data: st.DataObject
) -> None:
    samples, splits, d = stream
    cut = data.draw(st.integers(0, samples.shape[1]))
    first, second = learn(samples[:, :cut], [], d), learn(samples[:, cut:], [], d)
    whole = learn(samples, splits, d)
    for both in (merge(first, second), merge(second, first)):
        assert both.count == whole.count
        np.testing.assert_allclose(both.mean.numpy(), whole.mean.numpy(), rtol=1e-12, atol=1e-12)
        scale = float(whole.covariance().abs().max())
        np.testing.assert_allclose(both.covariance().numpy(), whole.covariance().numpy(), rtol=0, atol=4e-6 * scale)


@settings(max_examples=40, deadline=None)
@given(streams(), st.sampled_from([1.0, 2.5, 30.0]))
def test_with_a_half_life_samples_weigh_by_their_age(
    stream: tuple[np.ndarray, list[int], int], half_life: float
) -> None:
    """However the stream is cut, a sample seen k samples ago weighs 2^(-k/h)."""
    samples, splits, d = stream
    moments = Moments(CELLS, d)
    for batch in np.split(samples, splits, axis=1):
        moments.update(torch.from_numpy(batch), half_life)
    exact = samples.astype(np.float64)
    weights = 2.0 ** (-np.arange(samples.shape[1])[::-1] / half_life)
    assert moments.count == pytest.approx(weights.sum(), rel=1e-12)
    for cell in range(CELLS):
        mean = np.average(exact[cell], axis=0, weights=weights)
        np.testing.assert_allclose(moments.mean[cell].numpy(), mean, rtol=1e-11, atol=1e-11)
        # numpy divides by the sum of the weights; n - 1 is as without a half-life
        expected = np.cov(exact[cell], rowvar=False, aweights=weights, ddof=0).reshape(d, d)
        expected *= weights.sum() / (weights.sum() - 1)
        found = moments.covariance(slice(cell, cell + 1))[0].numpy()
        np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6 * np.abs(expected).max())


def test_merging_leaves_its_inputs_alone() -> None:
    samples = np.random.default_rng(0).standard_normal((CELLS, 9, 4)).astype(np.float32)
    first, second = learn(samples[:, :4], [], 4), learn(samples[:, 4:], [], 4)
    before = first.covariance().clone(), second.covariance().clone()
    merge(first, second)
    torch.testing.assert_close((first.covariance(), second.covariance()), before, rtol=0, atol=0)


@pytest.mark.parametrize("d", [1, 24, 25, 26, 100, 344, 550])
def test_blocks_tile_the_columns_and_stay_few(d: int) -> None:
    blocks = column_blocks(d)
    assert [column for a, b in blocks for column in range(a, b)] == list(range(d))
    assert len(blocks) <= 8
    stored = sum(b * (b - a) for a, b in blocks)
    assert stored <= d * d
    if d >= 100:
        assert stored < 0.63 * d * d


@pytest.mark.parametrize(("samples", "d"), [(200, 60), (12, 60), (2, 5)])
def test_distances_are_the_formulas(samples: int, d: int) -> None:
    """Also where there are fewer samples than dimensions, and epsilon carries the rest."""
    rng = np.random.default_rng(7)
    mix = rng.standard_normal((CELLS, d, d)) / d**0.5
    train = (rng.standard_normal((CELLS, samples, d)) @ mix + 1).astype(np.float32)
    test = (rng.standard_normal((CELLS, 6, d)) @ mix * 2 + 1).astype(np.float32)
    gaussians = Gaussians(CELLS, d)
    gaussians.fit(learn(train, [], d), epsilon=0.01)
    found = gaussians(torch.from_numpy(test)).sqrt().numpy()
    for cell in range(CELLS):
        inverse = np.linalg.inv(np.cov(train[cell].astype(np.float64), rowvar=False) + 0.01 * np.eye(d))
        delta = test[cell].astype(np.float64) - train[cell].astype(np.float64).mean(0)
        expected = np.sqrt(np.einsum("bi,ij,bj->b", delta, inverse, delta))
        np.testing.assert_allclose(found[cell], expected, rtol=1e-4)


def test_one_sample_is_refused() -> None:
    moments = learn(np.ones((CELLS, 1, 4), np.float32), [], 4)
    with pytest.raises(FitError, match="at least 2 samples, got 1"):
        Gaussians(CELLS, 4).fit(moments, epsilon=0.01)


def test_a_degenerate_covariance_is_refused() -> None:
    moments = learn(np.ones((CELLS, 5, 4), np.float32), [], 4)
    with pytest.raises(FitError, match="epsilon 0 is not positive definite"):
        Gaussians(CELLS, 4).fit(moments, epsilon=0.0)


def test_not_finite_samples_are_refused() -> None:
    samples = np.ones((CELLS, 5, 4), np.float32)
    samples[1, 2, 3] = np.nan
    with pytest.raises(FitError):
        Gaussians(CELLS, 4).fit(learn(samples, [], 4), epsilon=0.01)


def test_before_fitting_distances_are_no_numbers() -> None:
    assert bool(Gaussians(CELLS, 4)(torch.zeros(CELLS, 1, 4)).isnan().all())


@pytest.mark.parametrize(("samples", "d", "epsilon"), [(200, 60, 0.01), (12, 60, 0.01), (2, 5, 0.01), (90, 7, 0.0)])
def test_moments_are_recovered_from_the_factors(samples: int, d: int, epsilon: float) -> None:
    rng = np.random.default_rng(7)
    learned = learn((rng.standard_normal((CELLS, samples, d)) * 3 + 1).astype(np.float32), [], d)
    gaussians = Gaussians(CELLS, d)
    gaussians.fit(learned, epsilon)
    recovered = gaussians.moments(epsilon)
    assert recovered.count == samples
    torch.testing.assert_close(recovered.mean, learned.mean, rtol=1e-6, atol=1e-6)
    scale = float(learned.covariance().abs().max())
    np.testing.assert_allclose(recovered.covariance().numpy(), learned.covariance().numpy(), rtol=0, atol=2e-6 * scale)


def test_models_of_before_the_count_was_kept_load_but_do_not_say_it() -> None:
    gaussians, older = Gaussians(CELLS, 4), Gaussians(CELLS, 4)
    gaussians.fit(learn(np.random.default_rng(0).random((CELLS, 9, 4), np.float32), [], 4), epsilon=0.01)
    state = gaussians.state_dict()
    del state["count"]
    older.load_state_dict(state)
    assert torch.equal(older.mean, gaussians.mean)
    with pytest.raises(FitError, match="does not say how many images it was fitted on"):
        older.moments(0.01)
    for said in (older.moments(0.01, 9), gaussians.moments(0.01, 77)):  # who knows it need not be told
        torch.testing.assert_close(said.covariance(), gaussians.moments(0.01).covariance())


def test_a_refused_covariance_leaves_the_cells_as_they_were() -> None:
    gaussians = Gaussians(CELLS, 4)
    gaussians.fit(learn(np.random.default_rng(0).random((CELLS, 9, 4), np.float32), [], 4), epsilon=0.01)
    before = {key: tensor.clone() for key, tensor in gaussians.state_dict().items()}
    with pytest.raises(FitError, match="not positive definite"):
        gaussians.fit(learn(np.ones((CELLS, 5, 4), np.float32), [], 4), epsilon=0.0)
    assert all(torch.equal(tensor, before[key]) for key, tensor in gaussians.state_dict().items())
