"""The search against brute force in float64 and against scikit-learn."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors

from inference.detectors import neighbours
from inference.detectors.neighbours import nearest


def brute_force(queries: np.ndarray, gallery: np.ndarray, k: int) -> np.ndarray:
    differences = queries[:, None].astype(np.float64) - gallery[None].astype(np.float64)
    return np.sort(np.sqrt((differences**2).sum(2)), axis=1)[:, :k]


@st.composite
def searches(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, int]:
    """Queries, gallery and k; some queries are in the gallery, all may be far from the origin."""
    n, m, c = draw(st.integers(1, 40)), draw(st.integers(1, 60)), draw(st.sampled_from([1, 3, 16]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    offset = draw(st.sampled_from([0.0, 1.0, 100.0]))
    gallery = (rng.standard_normal((m, c)) + offset).astype(np.float32)
    queries = (rng.standard_normal((n, c)) + offset).astype(np.float32)
    queries[::3] = gallery[rng.integers(m, size=len(queries[::3]))]
    return queries, gallery, draw(st.integers(1, 70))


@settings(max_examples=60, deadline=None)
@given(searches(), st.sampled_from([1, 7, 64]))
def test_distances_are_those_of_brute_force(search: tuple[np.ndarray, np.ndarray, int], tile: int) -> None:
    queries, gallery, k = search
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(neighbours, "_TILE", tile)
        distances, rows = nearest(torch.from_numpy(queries), torch.from_numpy(gallery), k)
    expected = brute_force(queries, gallery, k)
    assert distances.shape == rows.shape == (len(queries), min(k, len(gallery)))
    np.testing.assert_allclose(distances.numpy(), expected, rtol=1e-5, atol=1e-5)
    measured = np.linalg.norm(queries[:, None].astype(np.float64) - gallery[rows.numpy()], axis=2)
    np.testing.assert_allclose(distances.numpy(), measured, rtol=1e-6)
    assert all(len(set(row)) == len(row) for row in rows.tolist())


@pytest.mark.parametrize("k", [1, 5, 2000])
def test_neighbours_are_scikit_learns(k: int) -> None:
    rng = np.random.default_rng(3)
    gallery = np.abs(rng.standard_normal((1500, 32))).astype(np.float32)
    queries = np.abs(rng.standard_normal((1100, 32))).astype(np.float32)
    kept = min(k, len(gallery))
    expected, places = NearestNeighbors(n_neighbors=kept, algorithm="brute").fit(gallery).kneighbors(queries)
    distances, rows = nearest(torch.from_numpy(queries), torch.from_numpy(gallery), k)
    np.testing.assert_allclose(distances.numpy(), expected, rtol=1e-5)
    assert (rows.numpy() == places).mean() > 0.999  # but for neighbours that are equally near after rounding


def test_what_is_in_the_gallery_is_at_no_distance() -> None:
    gallery = torch.rand(300, 16, generator=torch.Generator().manual_seed(0)) * 1000 + 1e4
    distances, rows = nearest(gallery, gallery)
    assert bool((distances == 0).all())
    assert rows[:, 0].tolist() == list(range(300))


def test_half_precision_galleries_are_searched_as_they_are() -> None:
    generator = torch.Generator().manual_seed(0)
    gallery, queries = torch.rand(50, 8, generator=generator), torch.rand(9, 8, generator=generator)
    half = nearest(queries, gallery.half(), 3)
    for one, other in zip(half, nearest(queries, gallery.half().float(), 3), strict=True):
        assert torch.equal(one, other)
    assert half[0].dtype == torch.float32


def test_a_query_that_is_no_number_spoils_only_itself() -> None:
    generator = torch.Generator().manual_seed(0)
    gallery, queries = torch.rand(50, 8, generator=generator), torch.rand(5, 8, generator=generator)
    alone = nearest(queries, gallery, 4)[0]
    queries[2, 3] = torch.nan
    distances, rows = nearest(queries, gallery, 4)
    assert bool(distances[2].isnan().all())
    assert bool((rows < 50).all())
    kept = [0, 1, 3, 4]
    torch.testing.assert_close(distances[kept], alone[kept])


@pytest.mark.parametrize(
    ("queries", "gallery", "k", "said"),
    [
        ((3, 4), (0, 4), 1, "1 nearest of 0"),
        ((3, 4), (5, 4), 0, "0 nearest of 5"),
        ((3, 4), (5, 3), 1, r"queries \[3, 4\] and gallery \[5, 3\]"),
        ((3, 4), (5,), 1, "must be"),
    ],
)
def test_impossible_searches_are_refused(queries: tuple[int, ...], gallery: tuple[int, ...], k: int, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        nearest(torch.zeros(queries), torch.zeros(gallery), k)


def test_no_queries_have_no_neighbours() -> None:
    distances, rows = nearest(torch.zeros(0, 4), torch.ones(5, 4), 2)
    assert distances.shape == rows.shape == (0, 2)
