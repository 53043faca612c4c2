"""The laws of the one way from a picture to what a detector sees."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from ingest.errors import ImageError
from ingest.preprocess import Preprocessing, prepare

RESAMPLE = st.sampled_from(["area", "linear", "cubic"])
SIDE = st.integers(16, 48)


@st.composite
def pictures(draw: st.DrawFn) -> np.ndarray:
    height, width = draw(st.integers(16, 64)), draw(st.integers(16, 64))
    return np.random.default_rng(draw(st.integers(0, 99))).integers(0, 256, (height, width, 3), np.uint8)


@st.composite
def pictures_with_roi(draw: st.DrawFn) -> tuple[np.ndarray, tuple[int, int, int, int]]:
    picture = draw(pictures())
    height, width = picture.shape[:2]
    x0, y0 = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
    return picture, (x0, y0, draw(st.integers(x0 + 1, width)), draw(st.integers(y0 + 1, height)))


@settings(deadline=None)
@given(pictures(), SIDE, SIDE, RESAMPLE)
def test_any_picture_comes_out_in_the_size_asked_for(picture: np.ndarray, width: int, height: int, how: str) -> None:
    before = picture.copy()
    prepared = prepare(picture, Preprocessing(size=(width, height), resample=how))
    assert prepared.shape == (height, width, 3)
    assert prepared.dtype == np.uint8
    assert prepared.flags.c_contiguous
    assert np.array_equal(picture, before)


@settings(deadline=None)
@given(pictures(), RESAMPLE)
def test_at_its_own_size_only_the_colours_change_places(picture: np.ndarray, how: str) -> None:
    height, width = picture.shape[:2]
    prepared = prepare(picture, Preprocessing(size=(width, height), resample=how))
    assert np.array_equal(prepared, picture[..., ::-1])


@settings(deadline=None)
@given(pictures_with_roi(), SIDE, SIDE, RESAMPLE)
def test_a_region_is_the_same_as_cutting_first(
    cut: tuple[np.ndarray, tuple[int, int, int, int]], width: int, height: int, how: str
) -> None:
    picture, (x0, y0, x1, y1) = cut
    inside = prepare(picture, Preprocessing(size=(width, height), resample=how, roi=(x0, y0, x1, y1)))
    first = prepare(picture[y0:y1, x0:x1].copy(), Preprocessing(size=(width, height), resample=how))
    assert np.array_equal(inside, first)


@settings(deadline=None)
@given(st.integers(0, 255), pictures(), SIDE, SIDE, RESAMPLE)
def test_one_colour_stays_one_colour(level: int, picture: np.ndarray, width: int, height: int, how: str) -> None:
    even = np.full_like(picture, level)
    assert np.all(prepare(even, Preprocessing(size=(width, height), resample=how)) == level)


@settings(deadline=None)
@given(pictures(), pictures(), st.booleans(), RESAMPLE)
def test_what_lies_outside_the_mask_cannot_matter(one: np.ndarray, two: np.ndarray, cut: bool, how: str) -> None:
    height, width = min(one.shape[0], two.shape[0]), min(one.shape[1], two.shape[1])
    corners = ((2, 2), (width - 4, 3), (width - 5, height - 4), (3, height - 3))
    polygon = np.array(corners)
    # Inside by the even-odd rule is OpenCV's business; well inside is everyone's.
    one, two = one[:height, :width].copy(), two[:height, :width].copy()
    x0, y0, x1, y1 = polygon[:, 0].min(), polygon[:, 1].min(), polygon[:, 0].max(), polygon[:, 1].max()
    two[y0 : y1 + 1, x0 : x1 + 1] = one[y0 : y1 + 1, x0 : x1 + 1]
    settings = Preprocessing(
        size=(24, 24), resample=how, mask=corners, roi=(1, 1, width - 1, height - 1) if cut else None
    )
    assert np.array_equal(prepare(one, settings), prepare(two, settings))


def test_the_mask_keeps_the_inside_and_greys_the_outside() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    corners = ((8, 8), (23, 8), (23, 23), (8, 23))
    prepared = prepare(picture, Preprocessing(size=(32, 32), mask=corners))
    assert np.array_equal(prepared[8:24, 8:24], picture[8:24, 8:24, ::-1])
    outside = np.ones((32, 32), bool)
    outside[8:24, 8:24] = False
    assert np.all(prepared[outside] == 127)


def test_the_mask_is_in_pixels_of_the_full_picture() -> None:
    picture = np.full((40, 40, 3), 200, np.uint8)
    prepared = prepare(
        picture, Preprocessing(size=(20, 20), roi=(20, 20, 40, 40), mask=((0, 0), (29, 0), (29, 39), (0, 39)))
    )
    assert np.all(prepared[:, :10] == 200)
    assert np.all(prepared[:, 10:] == 127)


@settings(deadline=None)
@given(pictures_with_roi())
def test_a_region_outside_the_picture_is_named(cut: tuple[np.ndarray, tuple[int, int, int, int]]) -> None:
    picture, (x0, y0, x1, _) = cut
    height, width = picture.shape[:2]
    with pytest.raises(ImageError, match=f"outside the {width}x{height} picture"):
        prepare(picture, Preprocessing(size=(16, 16), roi=(x0, y0, x1, height + 1)))


@pytest.mark.parametrize(
    "wrong",
    [
        {"roi": (5, 5, 5, 9)},
        {"roi": (-1, 0, 5, 5)},
        {"roi": (9, 0, 5, 5)},
        {"mask": ((0, 0), (1, 1))},
        {"size": (8, 32)},
        {"size": (32, 5000)},
        {"resample": "nearest"},
        {"colour": "rgb"},
    ],
)
def test_settings_without_a_meaning_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Preprocessing.model_validate({"size": (32, 32), **wrong})


def test_settings_survive_the_manifest() -> None:
    settings = Preprocessing(size=(64, 48), resample="cubic", roi=(1, 2, 30, 40), mask=((0, 0), (9, 0), (0, 9)))
    assert Preprocessing.model_validate_json(settings.model_dump_json()) == settings
