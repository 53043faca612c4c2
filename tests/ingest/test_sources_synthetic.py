"""The synthetic scenes: every frame a pure function, every defect visible and known."""

import itertools
import time

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.sources import open_source
from ingest.sources.belt import Belt
from ingest.sources.defects import contamination, dent, missing_piece, scratch
from ingest.sources.part import turned_flange
from ingest.sources.scene import SceneOptions
from ingest.sources.synthetic import injected, open_scene

BELT, YARD = "synthetic:belt?size=160x120", "synthetic:yard?size=160x120"
SCENES = [BELT, YARD]


@pytest.mark.parametrize("url", SCENES)
def test_a_frame_is_a_pure_function_of_its_number(url: str) -> None:
    one, two = open_scene(f"{url}&seed=7&defect_every=4"), open_scene(f"{url}&seed=7&defect_every=4")
    forwards = [one.render(seq) for seq in range(8)]
    backwards = [two.render(seq) for seq in reversed(range(8))][::-1]
    for first, second in zip(forwards, backwards, strict=True):
        assert first.shape == (120, 160, 3)
        assert first.dtype == np.uint8
        assert np.array_equal(first, second)


@pytest.mark.parametrize("url", SCENES)
def test_no_two_frames_and_no_two_seeds_are_alike(url: str) -> None:
    pictures = [open_scene(f"{url}&seed={seed}").render(seq) for seed in (0, 1) for seq in range(3)]
    for one, two in itertools.combinations(pictures, 2):
        assert not np.array_equal(one, two)


@pytest.mark.parametrize("url", SCENES)
def test_the_source_shows_what_the_scene_renders(url: str) -> None:
    source, scene = open_source(f"{url}&rate=max&frames=5&defect_every=2"), open_scene(f"{url}&defect_every=2")
    assert not source.live
    for seq in range(5):
        grabbed = source.grab()
        assert grabbed is not None
        assert np.array_equal(grabbed.picture, scene.render(seq))
        assert grabbed.part == (f"part-{seq:06d}" if "belt" in url else None)
    assert source.grab() is None
    source.close()


@settings(deadline=None)
@given(seed=st.integers(0, 2**32 - 1), every=st.integers(1, 60), block=st.integers(0, 2000))
def test_each_block_of_parts_holds_one_defect(seed: int, every: int, block: int) -> None:
    belt = Belt(SceneOptions(seed=seed, defect_every=every))
    assert sum(belt.injected(seq) for seq in range(block * every, (block + 1) * every)) == 1


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**32 - 1), every=st.integers(1, 400), block=st.integers(0, 2000))
def test_each_block_of_the_yard_holds_one_crossing_without_a_gap(seed: int, every: int, block: int) -> None:
    scene = open_scene(f"{YARD}&seed={seed}&defect_every={every}")
    shown = [scene.injected(seq) for seq in range(block * every, (block + 1) * every)]
    stretches = [(there, len(list(run))) for there, run in itertools.groupby(shown)]
    assert [length for there, length in stretches if there] == [min(80, max(1, every // 4))]


@pytest.mark.parametrize("url", SCENES)
def test_good_only_means_good_only(url: str) -> None:
    assert not any(injected(f"{url}&defect_every=0", seq) for seq in range(500))


@pytest.mark.parametrize("url", SCENES)
def test_what_is_injected_is_visible_and_what_is_not_is_not(url: str) -> None:
    """Same seed with and without injection differ exactly in the injected frames, and there by a visible patch."""
    spoiled, good = open_scene(f"{url}&seed=3&defect_every=8"), open_scene(f"{url}&seed=3&defect_every=0")
    n_injected = 0
    for seq in range(48):
        change = cv2.absdiff(spoiled.render(seq), good.render(seq)).max(axis=2)
        if spoiled.injected(seq):
            n_injected += 1
            assert (change > 40).mean() > 0.004  # 77 of 19,200 pixels
        else:
            assert change.max() == 0
    assert n_injected >= 6


@pytest.mark.parametrize("defect", [scratch, dent, contamination, missing_piece])
@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10_000))
def test_each_defect_covers_a_twentieth_of_the_part_or_is_stark(defect: object, seed: int) -> None:
    part = PART
    spoiled = defect(part, np.random.default_rng(seed))
    change = cv2.absdiff(spoiled.layer(), part.layer()).max(axis=2)
    area = np.pi * part.radius**2
    assert (change > 25).sum() > 0.05 * area or (change > 90).sum() > 0.015 * area


PART = turned_flange(180)


def test_the_good_part_stays_within_its_jitter() -> None:
    scene = open_scene(f"{BELT}&defect_every=0")
    gray = np.stack([cv2.cvtColor(scene.render(seq), cv2.COLOR_BGR2GRAY) for seq in range(40)]).astype(float)
    brightness = gray.mean(axis=(1, 2)) / gray.mean()
    assert np.abs(brightness - 1).max() < 0.12
    centres = []
    for picture in gray:
        rows, columns = np.nonzero(picture[20:100] > 0.8 * picture.mean() + 30)
        centres.append((rows.mean(), columns.mean()))
    assert np.ptp(np.array(centres), axis=0).max() < 6


def test_a_live_scene_keeps_its_time() -> None:
    source = open_source(f"{BELT}&fps=40")
    assert source.live
    started = time.monotonic()
    for _ in range(9):
        source.grab()
    assert time.monotonic() - started >= 8 / 40
    source.close()
    assert source.grab() is None


@pytest.mark.parametrize("option", ["fps=max", "rate=max", "rate=max&fps=10"])
def test_as_fast_as_taken_is_not_live(option: str) -> None:
    assert not open_source(f"{BELT}&{option}").live


@pytest.mark.parametrize("size", ["64x64", "64x300", "300x64", "500x400"])
@pytest.mark.parametrize("kind", ["belt", "yard"])
def test_any_size_is_painted(kind: str, size: str) -> None:
    width, height = map(int, size.split("x"))
    scene = open_scene(f"synthetic:{kind}?size={size}&defect_every=1")
    assert scene.render(2).shape == (height, width, 3)
