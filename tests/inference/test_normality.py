"""Normality of features, cell by cell, and what it says of images it has not seen."""

from collections.abc import Iterable, Sequence

import pytest
import torch
from torch import Tensor

from inference.detectors.normality import CrossFitted, Distances, Normalities, Normality
from inference.errors import FitError

SHAPES = [(3, 4, 6), (5, 2, 3)]


def taps(count: int, seed: int = 0) -> list[Tensor]:
    """Features whose mean and covariance differ from cell to cell."""
    found = []
    for number, (c, h, w) in enumerate(SHAPES):
        draw = torch.Generator().manual_seed(10 * seed + number)
        place = torch.Generator().manual_seed(number)
        mixing = torch.randn(h, w, c, c, generator=place)
        mean = torch.randn(c, h, w, generator=place)
        found.append(torch.einsum("hwcd,bdhw->bchw", mixing, torch.randn(count, c, h, w, generator=draw)) + mean)
    return found


def normality(features: Tensor, shrinkage: float = 1e-6) -> Normality:
    _, c, h, w = features.shape
    made = Normality((c, h, w), shrinkage=shrinkage)
    made.fit(made.gather(features.split(7)))
    return made


def passes(features: Sequence[Tensor]) -> Iterable[list[Tensor]]:
    return (list(batch) for batch in zip(*(tap.split(5) for tap in features), strict=True))


def test_deviations_have_mean_0_and_covariance_1_at_each_cell() -> None:
    for features in taps(200):
        deviations = normality(features)(features)
        assert deviations.shape == features.shape
        cells = deviations.flatten(2).permute(2, 1, 0).double()  # [cells, C, B]
        torch.testing.assert_close(cells.mean(2), torch.zeros(cells.shape[:2]).double(), atol=1e-4, rtol=0)
        for cell in cells:
            torch.testing.assert_close(torch.cov(cell), torch.eye(len(cell)).double(), atol=5e-3, rtol=0)


def test_shrinkage_bounds_what_a_silent_channel_can_say() -> None:
    features = taps(50)[0]
    features[:, 1] = 2.0
    changed = features.clone()
    changed[:, 1] = 2.1
    variance = features.var(0).mean()
    jump = (normality(features, 0.05)(changed) - normality(features, 0.05)(features)).square().sum(1).sqrt()
    assert float(jump.max()) <= 0.1 / float(0.05 * variance) ** 0.5 * 1.001


def test_each_image_is_seen_by_gaussians_that_did_not_see_its_stretch() -> None:
    features = taps(20)
    final = Normalities(SHAPES, shrinkage=0.1)
    fitted = CrossFitted(final, lambda: passes(features), 20)
    numbers = torch.tensor([19, 0, 7, 7])
    found = fitted.deviations([tap[numbers] for tap in features], numbers)
    for tap, deviations, whole in zip(features, found, final.each(), strict=True):
        for row, number in enumerate(numbers.tolist()):
            stretch = range(5 * (number // 5), 5 * (number // 5) + 5)
            rest = tap[[n for n in range(20) if n not in stretch]]
            expected = normality(rest, 0.1)(tap[number : number + 1])[0]
            torch.testing.assert_close(deviations[row], expected, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(whole(tap), normality(tap, 0.1)(tap), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("count", [2, 3])
def test_of_very_few_images_none_is_left_out(count: int) -> None:
    features = taps(count)
    final = Normalities(SHAPES, shrinkage=0.1)
    fitted = CrossFitted(final, lambda: passes(features), count)
    for one, other in zip(fitted.deviations(features, torch.arange(count)), final(features), strict=True):
        assert torch.equal(one, other)


def test_one_image_is_no_normality() -> None:
    with pytest.raises(FitError, match="at least 2 samples"):
        CrossFitted(Normalities(SHAPES, shrinkage=0.1), lambda: passes(taps(1)), 1)


def test_a_shrinkage_too_small_names_itself() -> None:
    features = taps(3)[0] * torch.logspace(0, 6, 3).view(1, 3, 1, 1)
    with pytest.raises(FitError, match=r"covariances of 3 good images .*: raise shrinkage \(1e-30\)"):
        normality(features, 1e-30)


def test_distances_are_standardised_and_rise_with_what_is_strange() -> None:
    features = taps(200)
    final = Normalities(SHAPES, shrinkage=0.01)
    CrossFitted(final, lambda: passes(features), 200)
    distances = Distances(2)
    distances.fit(final(list(batch)) for batch in passes(features))
    alone = [Distances(1) for _ in SHAPES]
    for number, one in enumerate(alone):
        one.centre.copy_(distances.centre[number : number + 1])
        one.spread.copy_(distances.spread[number : number + 1])
        with torch.no_grad():
            values = one([final(features)[number]])
        assert float(values.mean()) == pytest.approx(0, abs=1e-3)
        assert float(values.std()) == pytest.approx(1, abs=1e-2)
    strange = [tap.clone() for tap in features]
    strange[0][:, :, 1, 2] += 20
    with torch.no_grad():
        rise = (distances(final(strange)) - distances(final(features))).mean(0)
    assert rise.shape == SHAPES[0][1:]
    assert divmod(int(rise.argmax()), SHAPES[0][2]) == (1, 2)
