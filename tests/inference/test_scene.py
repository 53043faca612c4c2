"""A camera that was moved, covered or lost its light or focus is told from anything that happens before it."""

from concurrent.futures import ThreadPoolExecutor
from functools import cache

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.scene import LIGHT_MARGIN, OCCLUDED_ABOVE, Scene, SceneBuilder, SceneWatch
from inference.scene_measures import SIDE, TILES, Reference, agree
from ingest.frame import Condition
from ingest.preprocess import RGB, Preprocessing, prepare
from ingest.sources.synthetic import open_scene

ROOM = 64  # pixels of world around what the camera sees
quick = settings(deadline=None, max_examples=15)


@cache
def world(seed: int = 0, side: int = SIDE) -> np.ndarray:
    """What there is to see: blotches of several sizes, `[side + 2 ROOM, side + 2 ROOM]`, 60 to 190."""
    draw = np.random.default_rng(seed)
    full = side + 2 * ROOM
    sheet = np.zeros((full, full), np.float32)
    for cells in (6, 16, 48, 120):
        coarse = draw.normal(0, 1, (cells, cells)).astype(np.float32)
        sheet += cv2.resize(coarse, (full, full), interpolation=cv2.INTER_CUBIC)
    return 125 + 65 * np.tanh(sheet / 2)


def seen(x: float = 0, y: float = 0, *, noise: int = 0, gain: float = 1.0, side: int = SIDE) -> RGB:
    """What a camera sees that looks `x` pixels further right and `y` further down than usual."""
    view = cv2.getRectSubPix(world(side=side), (side, side), (ROOM + side / 2 - 0.5 + x, ROOM + side / 2 - 0.5 + y))
    return as_picture(gain * view, noise)


def as_picture(grey: np.ndarray, noise: int = 0) -> RGB:
    grain = np.random.default_rng(noise).normal(0, 1.5, (*grey.shape, 3))
    return np.clip(np.rint(grey[..., None] + grain), 0, 255).astype(np.uint8)


def grey(picture: RGB) -> np.ndarray:
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), np.uint8)


def good(count: int = 16) -> list[RGB]:
    return [seen(noise=n, gain=1 + 0.01 * np.sin(n)) for n in range(count)]


@cache
def scene() -> Scene:
    learned = SceneBuilder().add(np.stack(good())).scene()
    assert learned is not None
    return learned


@cache
def camera() -> SceneWatch:
    return SceneWatch(scene())


def condition(grey: np.ndarray) -> Condition:
    return camera().look(as_picture(grey, noise=99))


@quick
@given(st.integers(100, 10_000), st.floats(0.92, 1.08))
def test_a_good_picture_is_ok(noise: int, gain: float) -> None:
    assert camera().look(seen(noise=noise, gain=gain)) is Condition.OK


@quick
@given(st.floats(-60, 60), st.floats(-60, 60))
def test_a_bump_of_half_a_pixel_or_more_is_moved(x: float, y: float) -> None:
    said = camera().look(seen(x, y, noise=50))
    if np.hypot(x, y) >= 0.5:
        assert said is Condition.MOVED


@quick
@given(st.floats(-20, 20), st.floats(-20, 20))
def test_how_far_it_was_moved_is_what_was_cut_aside(x: float, y: float) -> None:
    view = grey(seen(x, y, noise=50))
    reference = Reference(grey(seen()))
    shifts = reference.measure(view).shifts
    assert np.median(np.abs(shifts - complex(-x, -y))) < 0.3
    assert agree(shifts, np.arange(len(TILES)), reference.step).moved == pytest.approx(np.hypot(x, y), abs=0.3)


@pytest.mark.parametrize("degrees", [-4, -1, 0.5, 2])
def test_a_turned_camera_is_moved(degrees: float) -> None:
    middle = ROOM + SIDE / 2
    turned = cv2.warpAffine(world(), cv2.getRotationMatrix2D((middle, middle), degrees, 1), world().shape[::-1])
    assert condition(turned[ROOM:-ROOM, ROOM:-ROOM]) is Condition.MOVED


@quick
@given(st.floats(LIGHT_MARGIN + 0.03, 0.9), st.booleans())
def test_a_change_of_gain_is_light(strength: float, darker: bool) -> None:
    gain = np.exp(-strength if darker else min(strength, 0.5))
    assert condition(gain * world()[ROOM:-ROOM, ROOM:-ROOM]) is Condition.LIGHT


@pytest.mark.parametrize(("gamma", "offset"), [(0.6, 0), (1.6, 0), (1, 30), (1, -30)])
def test_gamma_and_offset_are_light(gamma: float, offset: float) -> None:
    view = world()[ROOM:-ROOM, ROOM:-ROOM]
    assert condition(255 * (view / 255) ** gamma + offset) is Condition.LIGHT


@quick
@given(st.floats(1.2, 6))
def test_a_lens_out_of_focus_is_blurred(sigma: float) -> None:
    assert condition(cv2.GaussianBlur(world(), (0, 0), sigma)[ROOM:-ROOM, ROOM:-ROOM]) is Condition.BLURRED


@quick
@given(st.data())
def test_an_object_in_a_quarter_of_the_picture_is_not_the_cameras_fault(data: st.DataObject) -> None:
    wide = data.draw(st.integers(1, SIDE), label="wide")
    tall = data.draw(st.integers(1, max(1, SIDE * SIDE // 4 // wide)), label="tall")
    x, y = data.draw(st.integers(0, SIDE - wide), label="x"), data.draw(st.integers(0, max(0, SIDE - tall)), label="y")
    view = world()[ROOM:-ROOM, ROOM:-ROOM].copy()
    other = world(seed=1)[: min(tall, SIDE), :wide]
    thing = data.draw(st.sampled_from(["black", "white", "like the scene"]), label="thing")
    view[y : y + tall, x : x + wide] = {"black": 5, "white": 250, "like the scene": other}[thing]
    assert condition(view) is Condition.OK


@quick
@given(st.floats(OCCLUDED_ABOVE + 0.2, 1), st.sampled_from(["left", "top"]), st.sampled_from([0, 20, 230]))
def test_a_cover_over_half_of_the_lens_is_occluded(share: float, side: str, level: int) -> None:
    view = world()[ROOM:-ROOM, ROOM:-ROOM].copy()
    (view if side == "top" else view.T)[: round(share * SIDE)] = level
    assert condition(view) is Condition.OCCLUDED


def test_a_scene_survives_json_exactly() -> None:
    again = Scene.model_validate_json(scene().model_dump_json())
    assert again == scene()
    assert again.model_dump_json() == scene().model_dump_json()
    asked = [seen(x, noise=1, gain=g) for x in (0, 0.3, 3) for g in (1, 1.3)]
    assert [SceneWatch(again).look(picture) for picture in asked] == [camera().look(picture) for picture in asked]


def test_threads_share_a_watch() -> None:
    asked = [seen(x, noise=1, gain=g) for x in (0, 0.3, 3) for g in (1, 1.3)] * 8
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(camera().look, asked)) == [camera().look(picture) for picture in asked]


def test_things_that_each_go_their_own_way_are_no_motion_of_the_camera() -> None:
    reference = Reference(grey(seen()))
    draw, tiles = np.random.default_rng(3), np.arange(len(TILES))
    for _ in range(50):
        shifts = (draw.uniform(-20, 20, 9) + 1j * draw.uniform(-20, 20, 9)).astype(np.complex64)
        assert agree(shifts, tiles, reference.step).count < 6
    assert agree(shifts, tiles[:0], reference.step).count == 0


def test_a_belt_whose_parts_fill_the_picture_has_no_scene() -> None:
    draw, strip = np.random.default_rng(0), np.concatenate([world(seed) for seed in range(6)], axis=1)
    pictures = [as_picture(strip[:SIDE, x : x + SIDE], n) for n, x in enumerate(draw.integers(0, 6 * SIDE, 24))]
    assert SceneBuilder().add(np.stack(pictures)).scene() is None


def test_light_that_varies_on_good_pictures_is_not_checked_but_the_place_is() -> None:
    pictures = [seen(noise=n, gain=gain) for n, gain in enumerate(np.linspace(0.6, 1.3, 24))]
    learned = SceneBuilder().add(np.stack(pictures)).scene()
    assert learned is not None
    assert learned.light is None
    watch = SceneWatch(learned)
    assert watch.look(seen(noise=50, gain=0.5)) is Condition.OK
    assert watch.look(seen(5, noise=50, gain=0.8)) is Condition.MOVED


@pytest.mark.parametrize("kind", ["belt", "yard"])
def test_synthetic_cameras_are_fit_on_another_day_with_what_happens_on_it(kind: str) -> None:
    preprocessing = Preprocessing(size=(128, 128))
    quiet, live = (
        open_scene(f"synthetic:{kind}?size=160x120&{day}")
        for day in ("seed=1&defect_every=0", "seed=7&defect_every=24")
    )
    builder = SceneBuilder()
    for n in range(0, 400, 16):
        builder.add(prepare(quiet.render(n), preprocessing)[None])
    learned = builder.scene()
    assert learned is not None
    watch = SceneWatch(learned)
    assert {watch.look(prepare(live.render(n), preprocessing)) for n in range(24)} == {Condition.OK}
    dim = [prepare((live.render(n) * 0.5).astype(np.uint8), preprocessing) for n in range(5)]
    assert {watch.look(picture) for picture in dim} == {Condition.LIGHT}


def test_few_pictures_and_narrow_ones_teach_nothing() -> None:
    assert SceneBuilder().scene() is None
    assert SceneBuilder().add(np.stack(good(7))).scene() is None
    assert SceneBuilder().add(np.stack(good())[:, :40]).scene() is None


@pytest.mark.parametrize("size", [(100, 100), (256, 160), (512, 384)])
def test_pictures_of_any_size_are_compared(size: tuple[int, int]) -> None:
    def resized(picture: RGB) -> RGB:
        return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA))

    learned = SceneBuilder().add(np.stack([resized(picture) for picture in good()])).scene()
    assert learned is not None
    watch = SceneWatch(learned)
    assert watch.look(resized(seen(noise=50))) is Condition.OK
    assert watch.look(resized(seen(6, noise=50))) is Condition.MOVED


def test_a_mask_that_stays_in_its_place_does_not_hide_a_bump() -> None:
    preprocessing = Preprocessing(size=(SIDE, SIDE), mask=((30, 20), (230, 40), (200, 220), (40, 200)))
    learned = SceneBuilder().add(np.stack([prepare(picture, preprocessing) for picture in good()])).scene()
    assert learned is not None
    watch = SceneWatch(learned)
    assert watch.look(prepare(seen(noise=50), preprocessing)) is Condition.OK
    assert watch.look(prepare(seen(2, noise=50), preprocessing)) is Condition.MOVED
    assert watch.look(prepare(seen(noise=50, gain=0.7), preprocessing)) is Condition.LIGHT


def test_memory_is_bounded_and_every_picture_has_its_chance() -> None:
    builder = SceneBuilder()
    for n in range(0, 600, 20):
        builder.add(np.stack([np.full((64, 64, 3), n // 3 % 200, np.uint8)] * 20))
    kept = [int(picture[0, 0]) for picture in builder._kept]
    assert len(kept) == 128
    late = sum(level >= 100 for level in kept)
    assert 128 * 0.3 < late < 128 * 0.7
