import numpy as np
import pytest

from inference.errors import FitError
from inference.mapscale import MapScale
from inference.smoothing import Smoother
from inference.training.observing import Observer

RNG = np.random.default_rng(0)


def pictures(first: int, count: int) -> np.ndarray:
    return np.stack([np.random.default_rng(first + i).integers(0, 255, (40, 40, 3), np.uint8) for i in range(count)])


def seen(maps: np.ndarray, scores: np.ndarray | None = None, *, batch: int = 3, **options: object) -> Observer:
    observer = Observer(**options)
    scores = maps.max((1, 2)) if scores is None else scores
    for i in range(0, len(maps), batch):
        part = maps[i : i + batch]
        observer.add(pictures(i, len(part)), scores[i : i + batch], part)
    return observer


def test_the_scale_is_the_median_over_images_of_their_quantiles() -> None:
    maps = RNG.gamma(2.0, size=(11, 30, 20)).astype(np.float32)
    maps[4] += 1000  # one odd image among the good ones
    scale = seen(maps).calibration().scale
    low, high = np.median([np.quantile(m, (0.9, 0.995)) for m in maps], axis=0)
    assert scale == MapScale(low=low, high=high)
    assert scale.of(low) == pytest.approx(0.0)
    assert scale.of(high) == pytest.approx(0.1)


def test_peaks_are_kept_only_where_they_are_not_the_scores() -> None:
    maps = RNG.random((9, 8, 8)).astype(np.float32)
    assert seen(maps).calibration().peaks is None
    scores = maps.mean((1, 2))
    calibration = seen(maps, scores).calibration()
    assert calibration.peaks == tuple(sorted(maps.max((1, 2)).tolist()))
    assert calibration.scores == tuple(sorted(scores.astype(np.float64).tolist()))


def test_peaks_of_a_video_are_those_of_its_blocks() -> None:
    maps = np.repeat(RNG.random((40, 1, 1)), 25, axis=0) * RNG.random((1000, 4, 4))
    calibration = seen(maps.astype(np.float32), maps.mean((1, 2)), video=True).calibration(frame_s=0.1)
    assert calibration.decorrelation > 25
    assert len(calibration.peaks) == len(calibration.scores) == 1000 // calibration.decorrelation
    assert calibration.sequence == tuple(maps.mean((1, 2)).astype(np.float64).tolist())
    assert calibration.block_s == pytest.approx(calibration.decorrelation * 0.1)


@pytest.mark.parametrize("shape", [(1, 1), (6, 6)])
def test_no_maps_or_flat_ones_have_no_scale(shape: tuple[int, int]) -> None:
    calibration = seen(np.ones((5, *shape), np.float32), np.arange(5, dtype=np.float32)).calibration()
    assert calibration.scale is None
    assert calibration.pixel_threshold(calibration.threshold(0.5)) is None


def test_video_is_smoothed_as_judging_does_it() -> None:
    maps = RNG.random((60, 5, 5)).astype(np.float32)
    calibration = seen(maps, video=True, smoothing=4).calibration()
    smoother = Smoother(4)
    assert calibration.sequence == pytest.approx([smoother.add(m, float(m.max()))[1] for m in maps])
    assert calibration.smoothing == 4
    assert calibration.peaks is None


def test_images_are_not_smoothed() -> None:
    with pytest.raises(FitError, match="no neighbours in time"):
        Observer(smoothing=3)


def test_a_score_that_is_not_finite_is_refused() -> None:
    maps = np.ones((2, 3, 3), np.float32)
    with pytest.raises(FitError, match="1 of 2 good images"):
        seen(maps, np.array([1.0, np.nan], np.float32)).calibration()


def test_folds_and_batches_do_not_matter() -> None:
    maps = RNG.random((20, 6, 6)).astype(np.float32)
    assert seen(maps, batch=1).calibration() == seen(maps, batch=20).calibration()
