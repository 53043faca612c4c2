"""PaDiM against the formulas of its paper, in numpy and float64."""

import random

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy.ndimage import gaussian_filter
from structlog.testing import capture_logs
from torch import Tensor

from inference.detectors.costs import count_macs
from inference.detectors.padim import Padim, PadimSettings
from inference.errors import FitError, InferenceError, WeightsError
from inference.weights import load_backbone_weights
from tests.inference.tensors import Tensors

SIZE = (32, 48)  # width, height


def ignore(_done: int, _total: int, _note: str = "", /) -> None:
    """Nobody watches the progress."""


def images(count: int, seed: int) -> Tensor:
    width, height = SIZE
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(seed))


def fitted(train: Tensor, **settings: object) -> Padim:
    detector = Padim(PadimSettings(image_size=SIZE, **settings))
    with capture_logs():
        load_backbone_weights(detector.backbone, "random")
        detector.fit(Tensors(train, 5), ignore)
    return detector


def reference(detector: Padim, train: Tensor, test: Tensor) -> np.ndarray:
    """Distances `[B, h, w]` by the paper's section III, cell by cell, with an explicit inverse."""

    def embed(pictures: Tensor) -> np.ndarray:
        taps = [f.double().numpy() for f in detector.backbone(pictures)]
        height, width = taps[0].shape[2:]
        rows, columns = np.arange(height), np.arange(width)
        replicated = [
            tap[:, :, rows * tap.shape[2] // height][:, :, :, columns * tap.shape[3] // width] for tap in taps
        ]
        embedded = np.concatenate(replicated, axis=1)
        if detector.settings.reduction == "random":
            return embedded[:, detector.indices.numpy()]
        return np.einsum("bchw,cd->bdhw", embedded, detector.projection.double().numpy())

    learned, judged = embed(train), embed(test)
    _, d, height, width = learned.shape
    distances = np.empty((len(test), height, width))
    for i in range(height):
        for j in range(width):
            samples = learned[:, :, i, j]
            mean = samples.mean(0)
            covariance = (samples - mean).T @ (samples - mean) / (len(samples) - 1) + 0.01 * np.eye(d)
            inverse = np.linalg.inv(covariance)
            for b in range(len(test)):
                delta = judged[b, :, i, j] - mean
                distances[b, i, j] = np.sqrt(delta @ inverse @ delta)
    return distances


@pytest.mark.parametrize(("reduction", "dimensions"), [("random", 30), ("semi-orthogonal", 30), ("random", None)])
@pytest.mark.parametrize("count", [12, 60])
def test_maps_and_scores_are_the_papers(reduction: str, dimensions: int | None, count: int) -> None:
    train, test = images(count, 0), images(3, 1) * 0.7
    layers = ("layer1", "layer2", "layer3") if dimensions else ("layer1",)
    detector = fitted(train, reduction=reduction, dimensions=dimensions, layers=layers)
    expected = reference(detector, train, test)
    detection = detector(test)
    found = detector.gaussians(detector.embed(test)).sqrt().mT.unflatten(1, detector.grid)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-4)
    width, height = SIZE
    upsampled = torch.nn.functional.interpolate(
        torch.from_numpy(expected)[:, None], size=(height, width), mode="bicubic", align_corners=False
    )[:, 0]
    maps = np.stack([gaussian_filter(each.numpy(), 4.0) for each in upsampled])
    np.testing.assert_allclose(detection.maps.numpy(), maps, rtol=1e-4)
    np.testing.assert_allclose(detection.scores.numpy(), maps.max((1, 2)), rtol=1e-4)


def test_a_defect_is_found_where_it_is() -> None:
    train = images(40, 0) * 0.2 + 0.4
    detector = fitted(train, sigma=2.0)
    good = images(1, 5) * 0.2 + 0.4
    bad = good.clone()
    bad[:, :, 30:42, 4:16] = torch.rand(1, 3, 1, 1, generator=torch.Generator().manual_seed(2))
    both = detector(torch.cat([good, bad]))
    assert both.scores[1] > 1.3 * both.scores[0]
    row, column = divmod(int(both.maps[1].argmax()), SIZE[0])
    assert 26 <= row < 46
    assert column < 20


@pytest.mark.parametrize(
    ("backbone", "dimensions", "kept"),
    [("resnet18", 100, 100), ("wide_resnet50_2", 550, 550), ("efficientnet_b5", None, 344)],
)
def test_defaults_are_the_papers(backbone: str, dimensions: int | None, kept: int) -> None:
    settings = PadimSettings(backbone=backbone, image_size=(32, 32))
    assert settings.dimensions == dimensions
    detector = Padim(settings)
    assert detector.gaussians.mean.shape == (64, kept)
    assert PadimSettings.model_validate(settings.model_dump(mode="json")) == settings


def test_parameters_and_macs_are_counted() -> None:
    detector = Padim(PadimSettings())
    cells, d = 64 * 64, 100
    # ResNet18 to layer3 has 2,782,784 parameters; folding leaves one bias where a batch norm had two vectors.
    backbone = sum(p.numel() for p in detector.backbone.network.parameters())
    assert backbone == 2_780_544
    triangle = sum(b * (b - a) for a, b in detector.gaussians.blocks)
    assert triangle == 6250
    constants = 6 + 2 * 256 * 64  # ImageNet's mean and deviation, the two map matrices
    assert detector.parameter_count() == backbone + d + cells * (d + triangle) + constants + 1  # the count
    stem = 64 * 3 * 49 * 128 * 128
    layer1 = 4 * 64 * 64 * 9 * 64**2
    layer2 = (64 * 128 * 9 + 3 * 128 * 128 * 9 + 64 * 128) * 32**2
    layer3 = (128 * 256 * 9 + 3 * 256 * 256 * 9 + 128 * 256) * 16**2
    maps = 256 * 64 * 64 + 256 * 64 * 256
    assert count_macs(detector) == stem + layer1 + layer2 + layer3 + cells * triangle + maps


def test_kept_channels_follow_the_seed_and_are_saved() -> None:
    one, same, other = (Padim(PadimSettings(image_size=SIZE, seed=seed)) for seed in (1, 1, 2))
    assert torch.equal(one.indices, same.indices)
    assert not torch.equal(one.indices, other.indices)
    assert len(set(one.indices.tolist())) == 100
    other.load_state_dict(one.state_dict())  # the channels come with the model, not with its seed
    assert torch.equal(other.indices, one.indices)
    assert other.chosen == one.chosen


def test_projection_has_orthonormal_columns() -> None:
    detector = Padim(PadimSettings(image_size=SIZE, reduction="semi-orthogonal"))
    torch.testing.assert_close(detector.projection.mT @ detector.projection, torch.eye(100), rtol=0, atol=1e-6)


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_images_are_refused(count: int) -> None:
    detector = Padim(PadimSettings(image_size=SIZE, dimensions=4))
    with capture_logs():
        load_backbone_weights(detector.backbone, "random")
    with pytest.raises(FitError, match=f"at least 2 good images, got {count}"):
        detector.fit(Tensors(images(count, 0), 1), ignore)


@pytest.mark.parametrize(("count", "warned"), [(2, True), (15, True), (16, False)])
def test_few_images_are_warned_of(count: int, warned: bool) -> None:
    detector = Padim(PadimSettings(image_size=SIZE, dimensions=4))
    with capture_logs() as logs:
        load_backbone_weights(detector.backbone, "random")
        detector.fit(Tensors(images(count, 0), 99), ignore)
    said = [entry for entry in logs if entry["event"].startswith("few images")]
    assert [entry["images"] for entry in said] == ([count] if warned else [])


def test_progress_counts_images() -> None:
    seen: list[int] = []
    detector = Padim(PadimSettings(image_size=SIZE, dimensions=4))
    with capture_logs():
        load_backbone_weights(detector.backbone, "random")
        detector.fit(Tensors(images(7, 0), 3), lambda done, _total, _note="": seen.append(done))
    assert seen == [3, 6, 7]


def test_fitting_without_weights_is_refused() -> None:
    with pytest.raises(WeightsError, match="resnet18 has no weights yet"):
        Padim(PadimSettings(image_size=SIZE)).fit(Tensors(images(4, 0)), ignore)


def test_images_of_another_size_are_refused() -> None:
    detector = fitted(images(16, 0), dimensions=4)
    with pytest.raises(InferenceError, match="images are 64x64, the model's are 32x48"):
        detector(torch.rand(1, 3, 64, 64))


def test_too_many_dimensions_are_refused() -> None:
    with pytest.raises(FitError, match="dimensions 100 exceed the 64 channels of layer1"):
        Padim(PadimSettings(image_size=SIZE, layers=("layer1",)))


@pytest.mark.parametrize(
    "wrong",
    [{"backbone": "vgg"}, {"layers": ()}, {"dimensions": 0}, {"epsilon": -1}, {"sigmas": 4}, {"reduction": "pca"}],
)
def test_wrong_settings_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        PadimSettings(**wrong)


def test_an_image_that_is_no_number_spoils_only_itself() -> None:
    detector = fitted(images(20, 0), dimensions=8)
    batch = images(4, 3)
    alone = detector(batch).scores
    random.seed(0)
    batch[2, 1, random.randrange(SIZE[1]), random.randrange(SIZE[0])] = torch.nan
    spoiled = detector(batch).scores
    assert spoiled.isnan().tolist() == [False, False, True, False]
    torch.testing.assert_close(spoiled[[0, 1, 3]], alone[[0, 1, 3]])


def updated(first: Tensor, rest: list[Tensor], half_life: float | None = None, **settings: object) -> Padim:
    detector = fitted(first, **settings)
    for batch in rest:
        detector.update(Tensors(batch, 5), half_life=half_life)
    return detector


@pytest.mark.parametrize("reduction", ["random", "semi-orthogonal"])
@pytest.mark.parametrize(("count", "cuts"), [(60, [40]), (24, [9, 10, 17]), (60, list(range(20, 60, 2)))])
def test_an_update_is_as_good_as_having_known_all(reduction: str, count: int, cuts: list[int]) -> None:
    """Also after twenty, and where dimensions outnumber images, so that epsilon carries the rest."""
    everything, test = images(count, 0), torch.cat([images(3, 1), images(3, 2) * 0.7])
    parts = everything.tensor_split(cuts)
    whole = fitted(everything, reduction=reduction, dimensions=30)(test)
    bit_by_bit = updated(parts[0], list(parts[1:]), reduction=reduction, dimensions=30)(test)
    torch.testing.assert_close(bit_by_bit.scores, whole.scores, rtol=1e-4, atol=0)
    torch.testing.assert_close(bit_by_bit.maps, whole.maps, rtol=2e-4, atol=0)


def test_the_order_of_updates_does_not_matter() -> None:
    one, two, three, test = images(20, 0), images(7, 1), images(13, 2), images(4, 3)
    forwards = updated(one, [two, three], dimensions=30)(test)
    backwards = updated(three, [two, one], dimensions=30)(test)
    torch.testing.assert_close(forwards.scores, backwards.scores, rtol=1e-4, atol=0)


def test_with_a_half_life_the_model_moves_to_what_it_sees_now() -> None:
    dark, bright = images(40, 0) * 0.3, images(40, 1) * 0.3 + 0.5
    steady, tracking = updated(dark, [bright], dimensions=4), updated(dark, [bright], half_life=10, dimensions=4)
    assert float(steady.gaussians.count) == 80
    assert float(tracking.gaussians.count) == pytest.approx((1 - 0.5**4) / (1 - 0.5**0.1) + 40 * 0.5**4)
    now, then = images(9, 2) * 0.3 + 0.5, images(9, 3) * 0.3
    assert float(steady(then).maps.mean() / steady(now).maps.mean()) == pytest.approx(1, abs=0.2)
    assert float(tracking(then).maps.mean() / tracking(now).maps.mean()) > 1.5


def test_a_half_life_of_few_images_is_warned_of() -> None:
    """However many were seen: only so many still count."""
    detector = fitted(images(40, 0), dimensions=4)
    for half_life, warned in ((5, True), (50, False)):
        with capture_logs() as logs:
            detector.update([images(40, 1)], half_life=half_life)
        assert [entry["event"] for entry in logs if entry["event"].startswith("few images")] == (
            ["few images: distances are mostly guesses"] if warned else []
        )


def test_a_half_life_counts_images_not_updates() -> None:
    first, rest, test = images(30, 0), images(24, 1), images(3, 2)
    at_once = updated(first, [rest], half_life=10, dimensions=20)(test)
    in_turn = updated(first, list(rest.split(4)), half_life=10, dimensions=20)(test)
    torch.testing.assert_close(at_once.scores, in_turn.scores, rtol=1e-4, atol=0)


def test_batches_will_do_for_an_update() -> None:
    first, rest, test = images(20, 0), images(9, 1), images(2, 2)
    detector, seen = fitted(first, dimensions=20), list[int]()
    detector.update(iter(rest.split(4)), progress=lambda done, _total, _note="": seen.append(done))
    assert seen == [4, 8, 9]
    torch.testing.assert_close(detector(test).scores, updated(first, [rest], dimensions=20)(test).scores)


def test_updates_that_cannot_be_made_are_refused() -> None:
    detector, test = fitted(images(20, 0), dimensions=8), images(2, 1)
    before = detector(test).scores
    with pytest.raises(FitError, match="no images to update"):
        detector.update([])
    with pytest.raises(FitError, match=r"a half-life of 0\.5 images forgets"):
        detector.update([images(2, 2)], half_life=0.5)
    with pytest.raises(FitError, match="not positive definite"):
        detector.update([images(2, 2) * torch.nan])
    assert torch.equal(detector(test).scores, before)
    with pytest.raises(WeightsError, match="no weights yet"):
        Padim(PadimSettings(image_size=SIZE)).update([images(2, 2)])
