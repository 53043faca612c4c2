"""The losses against loops in numpy."""

from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor

from inference.detectors.fusion_losses import FusionLoss, consistency_loss, distance, feature_loss, score_loss


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def a_mask() -> Tensor:
    mask = torch.zeros(3, 8, 8, dtype=torch.bool)
    mask[0, 2:5, 1:7] = mask[1, 7, 7] = True
    return mask


def test_distance_to_the_centre() -> None:
    features = random(2, 5, 3, 4)
    expected = np.sqrt((features.numpy() ** 2).sum(1) + 1) - 1
    np.testing.assert_allclose(distance(features), expected, rtol=1e-5)
    assert float(distance(torch.full((1, 1, 1, 1), 1e-10))) == pytest.approx(5e-21)  # where the root of 1 + 1e-20 is 1


def test_feature_loss_as_in_equation_4() -> None:
    distances, mask = random(3, 8, 8).abs(), a_mask()
    normal, anomalous = [], []
    for i, y, x in product(range(3), range(8), range(8)):
        a = float(distances[i, y, x])
        if mask[i, y, x]:
            anomalous.append(-np.log(1 - np.exp(-a)))
        else:
            normal.append(a)
    expected = np.mean(normal) / 2 + np.mean(anomalous) / 2
    assert float(feature_loss(distances, mask)) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("value", [0.0, 1e-20, 1e-8, 1e3])
def test_feature_loss_is_finite_at_the_centre_and_far_from_it(value: float) -> None:
    features = torch.full((3, 4, 8, 8), value, requires_grad=True)
    loss = feature_loss(distance(features), a_mask())
    loss.backward()  # type: ignore[no-untyped-call]  # torch's own
    assert bool(loss.isfinite())
    assert features.grad is not None
    assert bool(features.grad.isfinite().all())


def test_score_loss_as_in_equation_5() -> None:
    scores, mask = 3 * random(3, 8, 8), a_mask()
    scores[0][~mask[0]], scores[1][~mask[1]] = 1.0, 4.0  # so that it does not matter which one is drawn
    normal = [max(0.0, s - 2.5) for s in scores[~mask].tolist()]
    anomalous = [max(0.0, 5 - (s - 1.0)) for s in scores[0][mask[0]].tolist()]
    anomalous += [max(0.0, 5 - (s - 4.0)) for s in scores[1][mask[1]].tolist()]
    found = score_loss(scores, mask, generator(), gamma=2.5, margin=5.0)
    assert float(found) == pytest.approx(np.mean(normal) + np.mean(anomalous), rel=1e-5)


def test_an_image_without_normal_pixels_is_compared_with_the_batch() -> None:
    mask = torch.zeros(2, 4, 4, dtype=torch.bool)
    mask[0] = True
    scores = torch.where(mask, 3.0, 1.0)
    assert float(score_loss(scores, mask, generator(), gamma=2.5, margin=5.0)) == pytest.approx(3)


def test_what_is_missing_in_the_batch_has_no_term() -> None:
    features, scores = random(2, 4, 8, 8), torch.full((2, 8, 8), 3.0)
    none, everything = torch.zeros(2, 8, 8, dtype=torch.bool), torch.ones(2, 8, 8, dtype=torch.bool)
    distances = distance(features)
    assert float(feature_loss(distances, none)) == pytest.approx(float(distances.mean()) / 2)
    assert float(score_loss(scores, none, generator(), gamma=2.5, margin=5.0)) == pytest.approx(0.5)
    expected = -torch.log(1 - torch.exp(-distances)).mean() / 2
    assert float(feature_loss(distances, everything)) == pytest.approx(float(expected), rel=1e-4)
    assert float(score_loss(scores, everything, generator(), gamma=2.5, margin=5.0)) == 0
    assert float(consistency_loss(features, scores, everything, patch=4)) == 0


def test_consistency_loss_as_in_equations_6_and_7() -> None:
    features, scores, mask = random(3, 6, 8, 8), random(3, 8, 8, seed=1), a_mask()
    total = []
    for f, s, m in zip(features.numpy(), scores.numpy(), mask.numpy(), strict=True):
        patches = [
            (f[:, y : y + 2, x : x + 2].mean((1, 2)), s[y : y + 2, x : x + 2].mean())
            for y, x in product(range(0, 8, 2), repeat=2)
            if not m[y : y + 2, x : x + 2].any()
        ]
        p = np.array([[np.linalg.norm(a - b) for b, _ in patches] for a, _ in patches])
        q = np.array([[abs(a - b) for _, b in patches] for _, a in patches])
        p, q = (np.exp(d / d.mean()) / np.exp(d / d.mean()).sum(1, keepdims=True) for d in (p, q))
        total.append((q * np.log(q / p)).sum(1).mean())
    assert float(consistency_loss(features, scores, mask, patch=2)) == pytest.approx(np.mean(total), rel=1e-4)


@pytest.mark.parametrize("features", [torch.zeros(2, 4, 8, 8), torch.ones(2, 4, 8, 8), random(2, 4, 8, 8)])
def test_consistency_of_even_maps_has_finite_gradients(features: Tensor) -> None:
    given = features.clone().requires_grad_()
    scores = given.sum(1)
    loss = consistency_loss(given, scores, a_mask()[:2], patch=2)
    loss.backward()  # type: ignore[no-untyped-call]  # torch's own
    assert given.grad is not None
    assert bool(given.grad.isfinite().all())
    assert float(loss.detach()) >= 0


def test_the_whole_is_the_weighted_sum() -> None:
    features, scores, mask = random(3, 6, 8, 8), random(3, 8, 8, seed=1), a_mask()
    parts = [
        float(FusionLoss(weights=weights)(features, scores, mask, generator()))
        for weights in ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
    ]
    assert min(parts) > 0
    whole = float(FusionLoss(weights=(2.0, 0.5, 3.0))(features, scores, mask, generator()))
    assert whole == pytest.approx(2 * parts[0] + 0.5 * parts[1] + 3 * parts[2], rel=1e-5)
    assert float(FusionLoss(weights=(0.0, 0.0, 0.0))(features, scores, mask, generator())) == 0
