"""MS-Flow: what it learns, how it scores, and what it refuses."""

from pathlib import Path

import numpy as np
import pytest
import torch
from structlog.testing import capture_logs
from torch import Tensor

from inference.detectors.msflow import Msflow, MsflowSettings
from inference.detectors.trained import Training
from inference.errors import InferenceError
from inference.weights import load_backbone_weights
from tests.inference.tensors import Tensors

SIZE = (64, 48)  # width, height
GRID = (3, 4)  # of layer3
QUICK = {"hidden": 16, "epochs": 6, "batch": 8, "learning_rate": 3e-3, "noise": 0.1, "image_size": SIZE}


def ignore(_done: int, _total: int, _note: str = "", /) -> None:
    """Nobody watches the progress."""


def stripes(count: int, seed: int) -> Tensor:
    """Slightly noisy pictures of the same stripes."""
    width, height = SIZE
    noise = torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(seed))
    return 0.15 * noise + 0.7 * (torch.arange(width) // 8 % 2)


def empty(**given: object) -> Msflow:
    detector = Msflow(MsflowSettings.model_validate({**QUICK, **given}))
    with capture_logs():
        load_backbone_weights(detector.backbone, "random")
    return detector


@pytest.fixture(scope="module")
def detector() -> Msflow:
    fitted = empty()
    fitted.fit(Tensors(stripes(32, seed=0)), ignore)
    return fitted


def likelihood(detector: Msflow, images: Tensor) -> float:
    """Mean log-density per dimension, without its constant."""
    with torch.no_grad():
        features = detector.normalised(detector.backbone(images)[0])
        z, log_det = detector.head(features)
    return float((log_det - 0.5 * z.square().sum(dim=(1, 2, 3))).mean()) / features[0].numel()


def test_training_raises_the_likelihood_of_unseen_good_images() -> None:
    # Not of cells: their normality knows the training images, and what is left of others is larger.
    trained, untrained = empty(normalise="channels"), empty(normalise="channels")
    trained.fit(Tensors(stripes(32, seed=0)), ignore)
    learned = {"mean": trained.mean, "deviation": trained.deviation}
    untrained.load_state_dict({**untrained.state_dict(), **learned})
    unseen = stripes(8, seed=1)
    assert likelihood(trained, unseen) > likelihood(untrained, unseen) + 0.1


@torch.no_grad()
def test_a_defect_scores_higher_and_is_found_where_it_is(detector: Msflow) -> None:
    good = stripes(4, seed=1)
    bad = good.clone()
    bad[:, :, 32:44, 4:20] = 1 - bad[:, :, 32:44, 4:20]
    seen, found = detector(good), detector(bad)
    assert bool((found.scores > seen.scores).all())
    row, column = divmod(int((found.maps - seen.maps).mean(0).argmax()), SIZE[0])
    assert row >= 24
    assert column < 32


@torch.no_grad()
def test_map_and_scores_follow_from_z(detector: Msflow) -> None:
    images = stripes(3, seed=2)
    features = detector.normalised(detector.backbone(images)[0])
    cells = (detector.head(features)[0].square().mean(1) / 2).numpy()
    assert cells.shape == (3, *GRID)
    detection = detector(images)
    width, height = SIZE
    expected = torch.nn.functional.interpolate(torch.from_numpy(cells)[:, None], (height, width), mode="bilinear")
    torch.testing.assert_close(detection.maps, expected[:, 0], rtol=1e-4, atol=1e-5)
    ordered = np.sort(cells.reshape(3, -1))
    for score, values in {
        "mean": ordered.mean(1),
        "max": ordered[:, -1],
        "top": ordered[:, -3:].mean(1),  # a quarter of twelve cells
    }.items():
        given = MsflowSettings.model_validate({**QUICK, "score": score, "top_share": 0.25})
        detector.settings, before = given, detector.settings
        np.testing.assert_allclose(detector(images).scores, values, rtol=1e-5)
        detector.settings = before


def test_channels_are_brought_to_mean_0_and_deviation_1(tmp_path: Path) -> None:
    kept, plain = empty(normalise="channels"), empty(normalise="none")
    features = kept.backbone(stripes(32, seed=0))[0].half().double()
    for model in (kept, plain):
        samples = model.samples(Tensors(stripes(32, seed=0)), Training(features=tmp_path), ignore)
        assert len(samples) == 32
        torch.testing.assert_close(samples.take([3, 1], epoch=0)[0], features[[3, 1]].float())
    torch.testing.assert_close(kept.mean.flatten(), features.mean((0, 2, 3)).float())
    deviation = features.var((0, 2, 3), correction=0).sqrt()
    floor = 0.05 * deviation.mean() + 1e-6
    torch.testing.assert_close(kept.deviation.flatten(), deviation.clamp_min(floor).float())
    assert torch.equal(plain.normalised(features.float()), features.float())


def test_cells_are_freed_of_what_good_images_show_there(detector: Msflow) -> None:
    features = detector.normalised(detector.backbone(stripes(32, seed=0))[0].half())  # as they were kept
    assert float(features.mean(0).abs().max()) < 2e-3
    assert float(features.square().mean()) < 1.01  # the shrinkage takes a little away, more than 1 there cannot be


def test_the_loss_is_the_likelihood_of_noisy_features(detector: Msflow) -> None:
    images = stripes(4, seed=3)
    batch = (detector.backbone(images)[0],)

    def loss(model: Msflow, seed: int) -> float:
        with torch.no_grad():
            return float(model.loss(batch, torch.Generator().manual_seed(seed)))

    assert loss(detector, 1) == loss(detector, 1)
    assert loss(detector, 1) != loss(detector, 2)
    assert loss(detector, 1) > -likelihood(detector, images)
    plain = empty(noise=0)
    plain.load_state_dict(detector.state_dict())
    assert loss(plain, 1) == loss(plain, 2) == pytest.approx(-likelihood(detector, images))


def test_the_rate_falls_only_if_asked() -> None:
    cosine, constant = empty(), empty(schedule="constant")
    assert [round(cosine.rate(done), 6) for done in (0, 0.5, 1)] == [1, 0.5, 0]
    assert constant.rate(0.9) == 1
    (group,) = cosine.optimizer().param_groups
    assert (group["eps"], group["weight_decay"]) == (1e-8, 1e-5)
    assert len(group["params"]) == len(list(cosine.head.parameters()))


@pytest.mark.parametrize(
    ("backbone", "node"),
    [
        ("resnet18", "layer3"),
        ("wide_resnet50_2", "layer3"),
        ("efficientnet_b5", "features.6"),
        ("efficientnet_b7", "features.6"),
        ("swin_b", "features.5"),
    ],
)
def test_settings_name_their_node(backbone: str, node: str) -> None:
    settings = MsflowSettings.model_validate({"backbone": backbone})
    assert settings.node == node
    assert MsflowSettings.model_validate(settings.model_dump(mode="json")) == settings
    assert MsflowSettings.model_validate({"backbone": backbone, "node": "layer2"}).node == "layer2"


def test_the_papers_profile_is_the_papers_size() -> None:
    settings = MsflowSettings.model_validate(MsflowSettings.paper_profile)
    detector = Msflow(settings)
    assert detector.backbone.shapes(*settings.image_size) == [(304, 24, 24)]
    assert sum(p.numel() for p in detector.trainable()) / 1e6 == pytest.approx(14.06, rel=5e-3)


def test_bad_requests_are_one_clear_line() -> None:
    with pytest.raises(InferenceError, match=r"^256 channels make no 300 sub-features: choose 2 to 256$"):
        empty(subfeatures=300)
    with pytest.raises(InferenceError, match=r"^images are 32x32, the model's are 64x48$"):
        empty()(torch.zeros(1, 3, 32, 32))
    with pytest.raises(ValueError, match="kernels"):
        empty(kernels=(3, 4))
