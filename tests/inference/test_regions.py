import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps
from scipy.ndimage import find_objects, label

from inference.mapscale import MapScale
from inference.regions import largest_region

SCALE = MapScale(low=1.0, high=3.0)
FEW = st.sampled_from([0.0, 1.0, 2.0, 3.0, 4.0])  # few values: many regions, many ties


def by_scipy(anomaly_map, threshold):
    labels, count = label(anomaly_map > threshold, structure=np.ones((3, 3)))
    found = [
        (int((labels == n).sum()), float(anomaly_map[labels == n].max()), where)
        for n, where in enumerate(find_objects(labels), start=1)
    ]
    assert len(found) == count
    best = max((area, peak) for area, peak, _ in found)
    return best, [where for area, peak, where in found if (area, peak) == best]


@given(nps.arrays(np.float32, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=FEW), FEW)
@settings(max_examples=300)
def test_it_is_the_largest_region_that_scipy_finds(anomaly_map, threshold):
    region = largest_region(anomaly_map, threshold, SCALE)
    if anomaly_map.max() <= threshold:
        assert region is None
        return
    (area, peak), boxes = by_scipy(anomaly_map, threshold)
    rows, columns = anomaly_map.shape
    assert region.area == area / anomaly_map.size
    assert region.peak == pytest.approx(SCALE.of(peak))
    assert region.box in [(x.start / columns, y.start / rows, x.stop / columns, y.stop / rows) for y, x in boxes]


def test_corners_touch_and_the_larger_wins_over_the_higher():
    anomaly_map = np.zeros((4, 8), np.float32)
    anomaly_map[0, 0] = anomaly_map[1, 1] = 2.0
    anomaly_map[3, 7] = 9.0
    region = largest_region(anomaly_map, 1.0, SCALE)
    assert (region.box, region.area) == ((0, 0, 2 / 8, 2 / 4), 2 / 32)
    assert region.peak == pytest.approx(0.05)
    anomaly_map[1, 1] = 0.0
    assert largest_region(anomaly_map, 1.0, SCALE).box == (7 / 8, 3 / 4, 1, 1)


@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6, width=32))
def test_there_is_a_region_wherever_the_score_is_above_the_threshold(threshold, score):
    region = largest_region(np.full((2, 2), score, np.float32), threshold, SCALE)
    assert (region is not None) == (score > threshold)


def test_a_scale_of_almost_no_width_gives_a_finite_peak():
    scale = MapScale(low=0.0, high=5e-324)
    assert np.isfinite(largest_region(np.full((2, 2), 3e38, np.float32), 0.0, scale).peak)
