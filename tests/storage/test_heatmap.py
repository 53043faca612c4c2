"""The heat map: calm looks calm, colours mean the same in each picture, and odd maps are drawn too."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps

from storage.heatmap import draw

FRAME = np.full((384, 400, 3), 128, np.uint8)
WIDTH = 400


def overlay(anomaly_map: np.ndarray, threshold: float | None) -> np.ndarray:
    return draw(FRAME, anomaly_map.astype(np.float32), threshold)[:, WIDTH + 6 : 2 * WIDTH + 6].astype(int)


def coloured(picture: np.ndarray) -> float:
    """Share of the pixels that are not grey."""
    return float((np.ptp(picture, axis=2) > 12).mean())


def test_a_calm_image_stays_calm_however_its_noise_is_spread() -> None:
    noise = np.random.default_rng(0).random((32, 32)) * 0.3
    assert coloured(overlay(noise, 1.0)) == 0
    assert coloured(overlay(noise * 0, 1.0)) == 0


def test_what_is_above_the_threshold_glows_where_it_is() -> None:
    hot = np.zeros((32, 32))
    hot[4:10, 20:28] = 2.0
    picture = overlay(hot, 1.0)
    assert coloured(picture[60:110, 260:340]) == 1
    assert coloured(picture[200:]) == 0


def test_colours_are_tied_to_the_threshold() -> None:
    hot = np.zeros((32, 32))
    hot[8:24, 8:24] = 1.2
    hotter = hot.copy()
    hotter[0, 0] = 9.0
    assert (overlay(hot, 1.0)[192, 200] == overlay(hotter, 1.0)[192, 200]).all()
    assert (overlay(hot, 1.0) == overlay(hot * 1000, 1000.0)).all()


def test_a_threshold_below_zero_has_its_place_too() -> None:
    calm, hot = np.full((8, 8), -30.0), np.full((8, 8), -30.0)
    hot[2:4, 2:4] = -5.0
    assert coloured(overlay(calm, -10.0)) == 0
    assert 0.03 < coloured(overlay(hot, -10.0)) < 0.2


def test_a_wide_frame_has_its_heat_map_below() -> None:
    frame = np.zeros((400, 1000, 3), np.uint8)
    assert draw(frame, np.zeros((4, 10), np.float32), 1.0).shape[:2] == (806, 1030)
    assert draw(frame[:, :500], np.zeros((4, 10), np.float32), 1.0).shape[:2] == (400, 1036)


def test_a_region_is_marked_in_both_pictures_and_what_is_in_it_stays() -> None:
    box = (0.25, 0.25, 0.5, 0.75)  # 100 to 200 by 96 to 288 pixels
    calm = np.zeros((32, 32), np.float32)
    plain, marked = draw(FRAME, calm, 1.0), draw(FRAME, calm, 1.0, box=box)
    for left in (0, WIDTH + 6):
        before, after = (picture[:, left : left + WIDTH] for picture in (plain, marked))
        changed = (before != after).any(axis=2)
        assert changed[90:94, 94:108].any()
        assert not changed[97:287, 101:199].any()
        assert not changed[:, 210:].any()


@given(
    box=st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1), st.floats(0, 1)),
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
)
@settings(max_examples=30, deadline=None)
def test_any_box_can_be_drawn(box: tuple[float, float, float, float], size: tuple[int, int]) -> None:
    x0, y0, x1, y1 = box
    box = min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)
    assert draw(np.zeros((*size, 3), np.uint8), np.zeros((4, 4), np.float32), 1.0, box=box).dtype == np.uint8


@given(
    anomaly_map=nps.arrays(np.float32, st.tuples(st.integers(1, 9), st.integers(1, 9))),
    threshold=st.none() | st.floats(allow_nan=False, allow_infinity=False, width=32),
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
)
@settings(max_examples=60, deadline=None)
def test_any_map_can_be_drawn(anomaly_map: np.ndarray, threshold: float | None, size: tuple[int, int]) -> None:
    picture = draw(np.zeros((*size, 3), np.uint8), anomaly_map, threshold)
    assert (picture.dtype, picture.ndim, picture.shape[2]) == (np.uint8, 3, 3)


@pytest.mark.parametrize("odd", [np.nan, np.inf])
def test_what_is_not_finite_glows(odd: float) -> None:
    hot = np.zeros((32, 32))
    hot[8:24, 8:24] = odd
    assert coloured(overlay(hot, 1.0)[150:240, 150:240]) == 1
