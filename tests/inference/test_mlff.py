"""The fusion network: its settings, its samples, and that it learns."""

from pathlib import Path

import numpy as np
import pytest
import torch
from structlog.testing import capture_logs
from torch import Tensor

from inference.detectors.backbones import Backbone
from inference.detectors.base import Progress
from inference.detectors.features import FrozenFeatures
from inference.detectors.mlff import Mlff, MlffSettings
from inference.detectors.pseudo_samples import FrozenPseudoSamples, PseudoSamples
from inference.detectors.trained import Training
from inference.errors import InferenceError
from inference.weights import load_backbone_weights
from tests.inference.tensors import Tensors

SIZE = (48, 32)  # width, height
GRID = (8, 12)
SMALL = {
    "image_size": SIZE,
    "width": 16,
    "epochs": 1,
    "batch": 8,
    "levels": 16,
    "repeat": 1,
    "least_samples": 1,
    "normalise": "none",
    "learning_rate": 0.01,
}
BASELINE = {"self_calibration": False, "texture": False, "score_loss": False, "consistency": False}
LADDER = [  # table 4
    BASELINE,
    BASELINE | {"self_calibration": True},
    BASELINE | {"self_calibration": True, "texture": True},
    BASELINE | {"self_calibration": True, "texture": True, "score_loss": True},
    BASELINE | {"self_calibration": True, "texture": True, "score_loss": True, "consistency": True},
]


def ignore(_done: int, _total: int, _note: str = "", /) -> None:
    """Nobody watches the progress."""


def pictures(count: int, seed: int = 0) -> Tensor:
    """Grey stripes with a little noise, as eight bits give them."""
    width, height = SIZE
    stripes = 0.5 + 0.2 * torch.sin(torch.arange(width) / 2).expand(count, 3, height, width)
    noise = 0.02 * torch.randn(count, 1, height, width, generator=torch.Generator().manual_seed(seed))
    return ((stripes + noise).clamp(0, 1) * 255).round() / 255


def fitted(
    given: dict[str, object], images: Tensor, training: Training | None = None, progress: Progress = ignore
) -> Mlff:
    detector = Mlff(MlffSettings.model_validate({**SMALL, **given}))
    load_backbone_weights(detector.backbone, "random")
    with capture_logs():
        detector.fit(Tensors(images), progress, training=training)
    return detector


def samples(ratio: float, *, redraw: bool = True) -> PseudoSamples:
    images = Tensors(pictures(20))
    kinds = ("confetti", "cutpaste")
    return PseudoSamples(images, repeat=2, ratio=ratio, kinds=kinds, grid=GRID, seed=0, redraw=redraw, negatives=True)


@pytest.mark.parametrize("ratio", [0.0, 0.05, 0.25, 0.5, 0.75, 1.0])
def test_the_ratio_of_table_3_is_met_exactly(ratio: float) -> None:
    made = samples(ratio)
    assert len(made) == 40
    for epoch in (0, 3):
        _, masks = made.take(range(40), epoch)
        assert int(masks.flatten(1).any(1).sum()) == round(40 * ratio)


def test_samples_differ_from_the_images_only_under_their_mask() -> None:
    good = pictures(20)
    made = samples(0.5)
    images, masks = made.take(range(40), 1)
    assert masks.shape == (40, *GRID)
    wide = masks.repeat_interleave(4, 1).repeat_interleave(4, 2)
    for n in range(40):
        same = (images[n] == good[n % 20]).all(0)
        assert bool(same[~wide[n]].all())
        assert bool(same.all()) == (not bool(masks[n].any()))
    again, _ = samples(0.5).take([7, 3], 1)
    assert torch.equal(again, images[[7, 3]])
    other, _ = made.take(range(40), 2)
    assert not torch.equal(other, images)
    fixed = samples(0.5, redraw=False)
    assert torch.equal(fixed.take(range(40), 2)[0], fixed.take(range(40), 0)[0])
    assert torch.equal(good, pictures(20))


@pytest.mark.parametrize("given", LADDER)
def test_every_row_of_the_ablation_trains(given: dict[str, object]) -> None:
    detector = Mlff(MlffSettings.model_validate({**SMALL, **given}))
    load_backbone_weights(detector.backbone, "random")
    before = {key: tensor.clone() for key, tensor in detector.state_dict().items()}
    with capture_logs():
        detector.fit(Tensors(pictures(8)), ignore)
    after = detector.state_dict()
    changed = {key for key in after if not torch.equal(before[key], after[key])}
    assert {key.split(".")[0] for key in changed} == {"network"}
    assert {key for key, _ in detector.named_parameters() if key.startswith("network.")} - changed <= {
        "network.texture.enhance.key.bias"  # the same for all levels that are looked at, so that softmax drops it
    }
    detection = detector(pictures(2))
    assert detection.maps.shape == (2, SIZE[1], SIZE[0])
    torch.testing.assert_close(detection.scores, detection.maps.amax((1, 2)))


@pytest.mark.parametrize("given", [{"ratio": 0.0}, {"ratio": 1.0}, {"window": "paper"}, {"sigma": 4.0}])
def test_other_settings_train(given: dict[str, object]) -> None:
    assert bool(fitted(given, pictures(8))(pictures(2)).maps.isfinite().all())


def test_a_backbone_that_is_not_frozen_learns() -> None:
    detector = Mlff(MlffSettings.model_validate({**SMALL, "freeze_backbone": False}))
    load_backbone_weights(detector.backbone, "random")
    before = {key: tensor.clone() for key, tensor in detector.backbone.state_dict().items()}
    with capture_logs():
        detector.fit(Tensors(pictures(8)), ignore)
    after = detector.backbone.state_dict()
    assert all(not torch.equal(before[key], after[key]) for key in before)


def test_kept_samples_lie_on_one_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """The masks are kept on the CPU; the features come to wherever the backbone is."""
    backbone = Backbone("resnet18", ["layer1"])
    load_backbone_weights(backbone, "random")
    made = FrozenPseudoSamples(samples(0.5, redraw=False), backbone, size=SIZE, training=Training(), progress=ignore)
    elsewhere = torch.empty(2, 64, *GRID, device="meta")  # stands in for a GPU
    monkeypatch.setattr(FrozenFeatures, "take", lambda *_: [elsewhere])
    feature, mask = made.take([3, 5], 0)
    assert feature is elsewhere
    assert mask.device == feature.device


@pytest.mark.parametrize("cached", [True, False])
def test_killed_with_normality_it_ends_as_one_that_was_left_alone(cached: bool, tmp_path: Path) -> None:
    given = {"normalise": "cells", "epochs": 3, "repeat": 2}
    whole = fitted(given, pictures(12), Training(features=tmp_path / "whole"))
    training = Training(
        checkpoint=tmp_path / "mlff.checkpoint", every_s=0.0, features=tmp_path / "killed" if cached else None
    )

    def kill(done: int, total: int, note: str = "", /) -> None:
        if "epoch" in note and done > total // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fitted(given, pictures(12), training, kill)
    resumed = fitted(given, pictures(12), training)
    for key, tensor in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[key], tensor), key


def test_kept_features_give_the_same_model(tmp_path: Path) -> None:
    images = pictures(10)
    plain = fitted({"redraw": False}, images).state_dict()
    for _ in range(2):  # the second time they are read back, and the masks drawn anew
        kept = fitted({"redraw": False}, images, Training(features=tmp_path)).state_dict()
        assert all(torch.equal(plain[key], kept[key]) for key in plain)
    assert len(list(tmp_path.iterdir())) == 1
    fitted({"redraw": False, "ratio": 0.25}, images, Training(features=tmp_path))
    assert len(list(tmp_path.iterdir())) == 2


def test_it_learns_to_see_what_was_pasted() -> None:
    detector = fitted({"epochs": 12, "repeat": 3, "learning_rate": 0.02}, pictures(16))
    good, bad = pictures(6, seed=1), pictures(6, seed=1)
    bad[:, :, 8:20, 10:26] = 0.15
    with torch.inference_mode():
        whole, spoiled = detector(good), detector(bad)
    assert float(spoiled.scores.min()) > float(whole.scores.max())
    inside = torch.zeros(SIZE[1], SIZE[0], dtype=torch.bool)
    inside[8:20, 10:26] = True
    assert float(spoiled.maps[:, inside].mean()) > float(spoiled.maps[:, ~inside].mean()) + 1


def test_the_rate_falls_from_epoch_to_epoch() -> None:
    detector = Mlff(MlffSettings.model_validate({**SMALL, "epochs": 200, "decay": 0.985}))
    rates = [detector.rate((epoch * 7 + step) / (200 * 7)) for epoch in range(200) for step in range(7)]
    np.testing.assert_allclose(rates, np.repeat(0.985 ** np.arange(200), 7))


def test_the_papers_network_has_12_million_parameters() -> None:
    detector = Mlff(MlffSettings.model_validate(MlffSettings.paper_profile))
    assert sum(p.numel() for p in detector.parameters()) == pytest.approx(12.3e6, rel=0.005)
    assert all(p.requires_grad for p in detector.parameters())
    assert detector.grid == (64, 64)


def test_images_of_another_size_are_refused() -> None:
    detector = Mlff(MlffSettings.model_validate(SMALL))
    with pytest.raises(InferenceError, match="images are 32x32, the model's are 48x32"):
        detector(torch.zeros(1, 3, 32, 32))
