"""Backbones: what is tapped, folded and frozen."""

import math

import pytest
import torch
from structlog.testing import capture_logs
from torch import Tensor
from torchvision import models
from torchvision.models.feature_extraction import create_feature_extractor

from inference.detectors.backbones import BACKBONES, Backbone, Tap
from inference.errors import InferenceError, WeightsError
from inference.weights import load_backbone_weights

RESNET = ("layer1", "layer2", "layer3")
NODES = dict.fromkeys(BACKBONES, RESNET) | {"efficientnet_b5": ("features.2", "features.4", "features.5")}


def counted(name: str, *, seed: int = 0) -> tuple[Backbone, dict[str, Tensor]]:
    """A backbone and torchvision tensors for it whose batch norms do something."""
    backbone = Backbone(name, NODES[name])
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for key, shape in backbone.expected().items():
        spread = torch.rand(shape, generator=generator)
        tensors[key] = spread + 0.5 if len(shape) == 1 else (spread - 0.5) * (6 / math.prod(shape[1:])) ** 0.5
    return backbone, tensors


@pytest.mark.parametrize(
    ("name", "channels", "strides"),
    [
        ("resnet18", (64, 128, 256), (4, 8, 16)),
        ("resnet50", (256, 512, 1024), (4, 8, 16)),
        ("wide_resnet50_2", (256, 512, 1024), (4, 8, 16)),
        ("efficientnet_b5", (40, 128, 176), (4, 16, 16)),
    ],
)
def test_taps_are_the_papers(name: str, channels: tuple[int, ...], strides: tuple[int, ...]) -> None:
    taps = Backbone(name, NODES[name]).taps
    assert taps == tuple(Tap(n, c, s) for n, c, s in zip(NODES[name], channels, strides, strict=True))


@pytest.mark.parametrize("name", ["resnet18", "efficientnet_b5"])
def test_folded_features_are_torchvisions(name: str) -> None:
    backbone, tensors = counted(name)
    backbone.load_weights(tensors)
    network = getattr(models, name)(weights=None)
    assert not network.load_state_dict(tensors, strict=False).unexpected_keys
    reference = create_feature_extractor(network.eval(), list(NODES[name])).eval()
    images = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    with torch.no_grad():
        expected = reference((images - mean.view(3, 1, 1)) / std.view(3, 1, 1)).values()
    for found, tap, wanted in zip(backbone(images), backbone.taps, expected, strict=True):
        assert found.shape[1] == tap.channels
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4 * float(wanted.abs().max()))


def test_shapes_are_what_forward_gives_for_odd_sizes_too() -> None:
    backbone, tensors = counted("resnet18")
    backbone.load_weights(tensors)
    found = [tuple(f.shape[1:]) for f in backbone(torch.rand(1, 3, 50, 91))]
    assert found == backbone.shapes(91, 50)


def test_only_layers_up_to_the_last_tap_are_needed() -> None:
    assert all(key.startswith(("conv1", "bn1", "layer1")) for key in Backbone("resnet18", ["layer1"]).expected())
    assert not any(key.endswith("num_batches_tracked") for key in Backbone("resnet18", RESNET).expected())


def test_it_is_frozen_and_never_in_training_mode() -> None:
    backbone, _ = counted("resnet18")
    holder = torch.nn.Sequential(backbone).train()
    assert not any(module.training for module in holder[0].modules())
    assert not any(p.requires_grad for p in backbone.parameters())


def test_without_weights_it_refuses_and_its_features_are_no_numbers() -> None:
    backbone = Backbone("resnet18", ["layer1"])
    with pytest.raises(WeightsError, match="resnet18 has no weights yet"):
        backbone.require_weights()
    assert bool(backbone(torch.zeros(1, 3, 32, 32))[0].isnan().any())
    with capture_logs():
        load_backbone_weights(backbone, "random")
    backbone.require_weights()


def test_building_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    counted("resnet18")
    torch.testing.assert_close(torch.random.get_rng_state(), before, rtol=0, atol=0)


def test_unknown_names_are_told_what_there_is() -> None:
    with pytest.raises(InferenceError, match="no backbone 'vgg': choose one of resnet18"):
        Backbone("vgg", ["layer1"])
    with pytest.raises(InferenceError, match=r"resnet18 has no nodes \['layer9'\]: they lie in conv1"):
        Backbone("resnet18", ["layer9"])
