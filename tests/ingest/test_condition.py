"""A camera that shows nothing, or always the same, is found; a living one is left alone."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.condition import ConditionWatch
from ingest.config import CaptureConfig
from ingest.frame import Condition
from ingest.sources.synthetic import open_scene


def noisy(seed: int, level: int = 100, shape: tuple[int, int] = (120, 160)) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(level, 4, (*shape, 3))
    return np.clip(noise, 0, 255).astype(np.uint8)


def watch(frozen_after_s: float = 1.0, dark_below: float = 6.0, overexposed_above: float = 0.8) -> ConditionWatch:
    return ConditionWatch(frozen_after_s=frozen_after_s, dark_below=dark_below, overexposed_above=overexposed_above)


@settings(deadline=None)
@given(st.lists(st.one_of(st.none(), st.integers(0, 3)), max_size=40), st.floats(0.01, 2.0), st.floats(0.0, 3.0))
def test_frozen_exactly_when_the_same_picture_has_lasted(shown: list[int | None], step: float, after: float) -> None:
    """Checked against the definition: the run of equal pictures that ends here, corrupt ones passed over."""
    camera, now, run = watch(after), 100.0, []
    for picture in shown:
        now += step
        said = camera.observe(None if picture is None else noisy(picture), now)
        if picture is None:
            assert said is Condition.CORRUPT
            continue
        run = [*run, (picture, now)] if run and run[-1][0] == picture else [(picture, now)]
        frozen = after > 0 and len(run) >= 3 and now - run[0][1] >= after
        assert said is (Condition.FROZEN if frozen else Condition.OK)


def test_a_frozen_camera_that_moves_again_is_fine() -> None:
    camera = watch()
    said = [camera.observe(noisy(1), 0.5 * n) for n in range(4)]
    assert said[-1] is Condition.FROZEN
    assert camera.observe(noisy(2), 2.0) is Condition.OK
    assert camera.observe(noisy(2), 2.1) is Condition.OK


@settings(deadline=None)
@given(st.integers(0, 119 - 2), st.integers(0, 159 - 2), st.integers(0, 2))
def test_a_change_as_tall_as_a_64th_of_the_picture_is_seen(y: int, x: int, channel: int) -> None:
    camera = watch(frozen_after_s=0.1)
    still = noisy(1)
    for n in range(3):
        said = camera.observe(still, float(n))
    assert said is Condition.FROZEN
    changed = still.copy()
    changed[y : y + 2, x : x + 2, channel] ^= 1
    assert camera.observe(changed, 3.0) is Condition.OK


def test_another_size_is_another_picture() -> None:
    camera = watch(frozen_after_s=0.1)
    for n in range(3):
        said = camera.observe(np.full((64, 64, 3), 90, np.uint8), float(n))
    assert said is Condition.FROZEN
    assert camera.observe(np.full((32, 128, 3), 90, np.uint8), 3.0) is Condition.OK


@settings(deadline=None)
@given(level=st.integers(0, 255), below=st.floats(0, 255))
def test_an_even_picture_is_dark_below_the_bound(level: int, below: float) -> None:
    said = watch(0, below, 1).observe(np.full((40, 50, 3), level, np.uint8), 0.0)
    if abs(level - below) > 1e-3:  # float32 rounding of the luminance
        assert said is (Condition.DARK if level < below else Condition.OK)


def test_a_lamp_in_the_dark_is_light_enough_and_a_hot_pixel_is_not() -> None:
    night = np.zeros((480, 640, 3), np.uint8)
    night[3, 3] = 255
    assert watch().observe(night, 0.0) is Condition.DARK
    night[:80, :80] = 200
    assert watch().observe(night, 0.0) is Condition.OK


@settings(deadline=None)
@given(white=st.integers(0, 90), above=st.floats(0, 1))
def test_overexposed_when_a_larger_share_is_white(white: int, above: float) -> None:
    picture = np.full((90, 90, 3), 249, np.uint8)
    picture[:white] = 250
    said = watch(0, 0, above).observe(picture, 0.0)
    if abs(white / 90 - above) > 1e-6:
        assert said is (Condition.OVEREXPOSED if white / 90 > above else Condition.OK)


def test_a_white_picture_is_overexposed_and_not_frozen_and_can_be_allowed() -> None:
    white = np.full((48, 64, 3), 255, np.uint8)
    camera, backlit = watch(), watch(overexposed_above=1)
    assert {camera.observe(white, float(n)) for n in range(9)} == {Condition.OVEREXPOSED}
    assert backlit.observe(white, 0.0) is Condition.OK


@pytest.mark.parametrize("fps", [0.2, 1.0, 2.0, 10.0, 30.0])
def test_a_feed_that_freezes_is_found_within_2_seconds_or_at_its_third_equal_picture(fps: float) -> None:
    config = CaptureConfig(id="a", source="usb:0")
    camera = watch(config.frozen_after_s, config.dark_below, config.overexposed_above)
    assert camera.observe(noisy(0), 0.0) is Condition.OK
    frames = range(1, 1 + int(max(2 * fps, 3)))
    said = [camera.observe(noisy(1), n / fps) for n in frames]
    assert said[-1] is Condition.FROZEN


@pytest.mark.parametrize("kind", ["belt", "yard"])
def test_synthetic_cameras_are_alive(kind: str) -> None:
    config, scene = CaptureConfig(id="a", source="usb:0"), open_scene(f"synthetic:{kind}?size=160x120")
    camera = watch(config.frozen_after_s, config.dark_below, config.overexposed_above)
    assert {camera.observe(scene.render(n), n / 2) for n in range(12)} == {Condition.OK}


def test_a_covered_lens_is_dark_and_not_frozen() -> None:
    camera = watch()
    assert {camera.observe(np.zeros((48, 64, 3), np.uint8), float(n)) for n in range(9)} == {Condition.DARK}


@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (500, 1), (7, 7)])
def test_odd_shapes_are_judged(shape: tuple[int, int]) -> None:
    assert watch().observe(np.full((*shape, 3), 80, np.uint8), 0.0) is Condition.OK


def test_a_view_with_gaps_in_memory_is_judged_like_its_copy() -> None:
    camera = watch(frozen_after_s=0.1)
    big = noisy(1)
    for n in range(3):
        said = camera.observe(big[10:70, 20:90] if n % 2 else big[10:70, 20:90].copy(), float(n))
    assert said is Condition.FROZEN
