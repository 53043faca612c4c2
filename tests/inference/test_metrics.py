from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from numpy.typing import NDArray
from scipy.ndimage import label
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score, roc_curve

from inference.training.metrics import PixelScores, image_metrics

Maps = NDArray[np.float32]
Masks = NDArray[np.bool_]


def brute_force_aupro(maps: Maps, masks: Masks, limit: float) -> float:
    """The definition, one threshold and one region at a time."""
    regions = []
    for i, mask in enumerate(masks):
        labels, count = label(mask, structure=np.ones((3, 3)))
        regions += [maps[i][labels == k] for k in range(1, count + 1)]
    normal = maps[~masks]
    points = [(0.0, 0.0)]
    for threshold in sorted(set(maps.ravel().tolist()), reverse=True):
        rate = sum(s >= threshold for s in normal) / len(normal)
        overlap = sum(sum(s >= threshold for s in region) / len(region) for region in regions) / len(regions)
        points.append((rate, overlap))
    area = 0.0
    for (x0, y0), (x1, y1) in pairwise(points):
        if x1 <= limit:
            area += (x1 - x0) * (y0 + y1) / 2
        elif x0 < limit:
            at_limit = y0 + (y1 - y0) * (limit - x0) / (x1 - x0)
            area += (limit - x0) * (y0 + at_limit) / 2
    return area / limit


@st.composite
def sets(draw: st.DrawFn) -> tuple[Maps, Masks]:
    # Small whole numbers and halves are told apart by the leading bits, so binning loses nothing.
    shape = (draw(st.integers(1, 4)), draw(st.integers(2, 7)), draw(st.integers(2, 7)))
    maps = draw(npst.arrays(np.float32, shape, elements=st.integers(-9, 9).map(lambda k: k / 2)))
    masks = draw(npst.arrays(np.bool_, shape))
    masks[0, 0, 0], masks[-1, -1, -1] = True, False
    return maps, masks


def count(maps: Maps, masks: Masks, bits: int = 21) -> PixelScores:
    pixels = PixelScores(bits)
    for anomaly_map, mask in zip(maps, masks, strict=True):
        pixels.add(anomaly_map, mask)
    return pixels


@settings(deadline=None)
@given(sets(), st.sampled_from([0.05, 0.3, 1.0]))
def test_aupro_is_its_definition(data: tuple[Maps, Masks], limit: float) -> None:
    maps, masks = data
    assert count(maps, masks).aupro(limit) == pytest.approx(brute_force_aupro(maps, masks, limit), abs=1e-12)


@settings(deadline=None)
@given(sets())
def test_pixel_auroc_is_that_of_scikit_learn(data: tuple[Maps, Masks]) -> None:
    maps, masks = data
    pixels = count(maps, masks)
    assert pixels.auroc() == pytest.approx(roc_auc_score(masks.ravel(), maps.ravel()), abs=1e-12)
    fpr, tpr = pixels.roc_curve()
    expected = roc_curve(masks.ravel(), maps.ravel(), drop_intermediate=False)
    np.testing.assert_allclose(fpr, expected[0], atol=1e-12)
    np.testing.assert_allclose(tpr, expected[1], atol=1e-12)


@settings(deadline=None)
@given(sets())
def test_pixel_precision_is_that_of_scikit_learn(data: tuple[Maps, Masks]) -> None:
    maps, masks = data
    pixels = count(maps, masks)
    truth, scores = masks.ravel(), maps.ravel()
    assert pixels.average_precision() == pytest.approx(average_precision_score(truth, scores), abs=1e-12)
    precision, recall, _ = precision_recall_curve(truth, scores)
    both = np.maximum(precision + recall, np.finfo(float).tiny)
    assert pixels.f1_max() == pytest.approx(np.max(2 * precision * recall / both), abs=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_metrics_are_those_of_published_implementations(seed: int) -> None:
    # Imported here: the import of torchmetrics takes seconds. Its reference implementation is MVTec's own code.
    from pyaupro import PerRegionOverlap
    from torchmetrics.functional.classification import binary_auroc, binary_average_precision

    rng = np.random.default_rng(seed)
    masks = np.zeros((6, 48, 40), bool)
    for mask in masks[2:]:  # regions of many sizes, some of which touch
        for _ in range(3):
            top, left, height, width = rng.integers(1, 20, 4)
            mask[top : top + height, left : left + width] = True
    # In halves that the leading bits tell apart, inside [0, 1], where torchmetrics leaves scores as they are.
    maps = np.clip((rng.normal(size=masks.shape) + 1.5 * masks + 4) / 16, 0, 1)
    maps = (np.round(maps * 512) / 512).astype(np.float32)
    pixels = count(maps, masks)
    scores, truth = torch.from_numpy(maps), torch.from_numpy(masks.astype(np.int64))
    published = PerRegionOverlap(thresholds=None, reference_implementation=True)
    published.update(scores, truth)
    fpr, pro = (curve.double().numpy() for curve in published.compute())
    for limit in (0.05, 0.3, 1.0):
        inside = fpr <= limit
        rates, overlaps = np.append(fpr[inside], limit), np.append(pro[inside], np.interp(limit, fpr, pro))
        assert pixels.aupro(limit) == pytest.approx(np.trapezoid(overlaps, rates) / limit, abs=1e-6)
    assert pixels.auroc() == pytest.approx(float(binary_auroc(scores.ravel(), truth.ravel())), abs=1e-5)
    precision = float(binary_average_precision(scores.ravel(), truth.ravel()))
    assert pixels.average_precision() == pytest.approx(precision, abs=1e-5)


@settings(deadline=None, max_examples=30)
@given(sets(), sets())
def test_counts_can_be_kept_and_joined(one: tuple[Maps, Masks], other: tuple[Maps, Masks]) -> None:
    whole = count(*one)
    for anomaly_map, mask in zip(*other, strict=True):
        whole.add(anomaly_map, mask)
    joined = PixelScores()
    joined.join(count(*one).counts())
    joined.join(count(*other).counts())
    assert joined.n_regions == whole.n_regions
    assert joined.aupro() == pytest.approx(whole.aupro(), abs=1e-12)
    assert joined.f1_max() == whole.f1_max()
    with pytest.raises(ValueError, match="bins of 12 bits cannot join bins of 21"):
        joined.join(PixelScores(12).counts())


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**32 - 1), st.floats(-3, 3), st.floats(-20, 20), st.integers(12, 24))
def test_binning_moves_the_auroc_no_more_than_it_says(seed: int, shift: float, exponent: float, bits: int) -> None:
    rng = np.random.default_rng(seed)
    masks = rng.uniform(size=(3, 20, 20)) < 0.2
    maps = ((rng.normal(size=masks.shape) + shift * masks) * 10.0**exponent).astype(np.float32)
    pixels = count(maps, masks, bits)
    exact = roc_auc_score(masks.ravel(), maps.ravel())
    assert abs(pixels.auroc() - exact) <= pixels.auroc_error() + 1e-12


def test_error_of_the_default_bins_is_negligible() -> None:
    rng = np.random.default_rng(0)
    masks = rng.uniform(size=(4, 64, 64)) < 0.1
    maps = (10 + 0.5 * rng.normal(size=masks.shape) + 0.5 * masks).astype(np.float32)
    pixels = count(maps, masks)
    assert pixels.auroc_error() < 1e-3
    assert pixels.auroc() == pytest.approx(roc_auc_score(masks.ravel(), maps.ravel()), abs=1e-5)


def test_regions_weigh_the_same_whatever_their_size() -> None:
    mask = np.zeros((10, 10), bool)
    mask[:5, :5] = True  # found
    mask[9, 9] = True  # missed
    anomaly_map = np.where(mask, 1.0, 0.0).astype(np.float32)
    anomaly_map[9, 9] = -1.0
    assert count(anomaly_map[None], mask[None]).pro_curve()[1][1] == pytest.approx(0.5)


def test_diagonal_neighbours_are_one_region() -> None:
    pixels = count(np.zeros((1, 4, 4), np.float32), np.eye(4, dtype=bool)[None])
    assert pixels.n_regions == 1


def test_perfect_maps_reach_one_and_inverted_ones_zero() -> None:
    mask = np.zeros((1, 8, 8), bool)
    mask[0, 2:4, 2:4] = True
    assert count(mask.astype(np.float32), mask).aupro() == pytest.approx(1.0)
    assert count(mask.astype(np.float32), mask).auroc() == pytest.approx(1.0)
    assert count(-mask.astype(np.float32), mask).auroc() == pytest.approx(0.0)
    assert count(-mask.astype(np.float32), mask).aupro() == pytest.approx(0.0)


def test_minus_zero_is_zero() -> None:
    mask = np.array([[[True, False]]])
    assert count(np.array([[[-0.0, 0.0]]], np.float32), mask).auroc() == 0.5


def test_maps_that_cannot_be_counted_are_refused() -> None:
    pixels = PixelScores()
    with pytest.raises(ValueError, match="cannot be compared"):
        pixels.add(np.zeros((2, 2), np.float32), np.zeros((2, 3), bool))
    with pytest.raises(ValueError, match="not finite"):
        pixels.add(np.full((2, 2), np.nan, np.float32), np.zeros((2, 2), bool))
    with pytest.raises(ValueError, match="at least one"):
        pixels.auroc()
    with pytest.raises(ValueError, match="at least one"):
        pixels.f1_max()


@given(
    st.lists(st.integers(0, 20).map(float), min_size=1, max_size=30),
    st.lists(st.integers(0, 20).map(float), min_size=1, max_size=30),
)
def test_image_metrics_are_their_definitions(good: list[float], defect: list[float]) -> None:
    found = image_metrics(good, defect)
    wins = sum((d > g) + 0.5 * (d == g) for d in defect for g in good)
    assert found.auroc == pytest.approx(wins / len(good) / len(defect))
    best = 0.0
    for threshold in {*good, *defect}:
        hits, false = sum(d >= threshold for d in defect), sum(g >= threshold for g in good)
        best = max(best, 2 * hits / (hits + false + len(defect)))
    assert found.f1_max == pytest.approx(best)
    assert 0 <= found.average_precision <= 1
