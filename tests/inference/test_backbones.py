"""Backbones: what is tapped, folded and frozen."""

import math

import pytest
import torch
from structlog.testing import capture_logs
from torch import Tensor
from torchvision import models
from torchvision.models.feature_extraction import create_feature_extractor
from torchvision.ops.misc import Permute

from inference.detectors.backbones import BACKBONES, Backbone, Tap
from inference.errors import InferenceError, WeightsError
from inference.weights import load_backbone_weights

RESNET = ("layer1", "layer2", "layer3")
NODES = dict.fromkeys(BACKBONES, RESNET) | {
    "efficientnet_b5": ("features.2", "features.4", "features.5"),
    "efficientnet_b7": ("features.2", "features.6"),
    "swin_b": ("features.1", "features.3"),
}


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
        ("efficientnet_b7", (48, 384), (4, 32)),
        ("swin_b", (128, 256), (4, 8)),
    ],
)
def test_taps_are_the_papers(name: str, channels: tuple[int, ...], strides: tuple[int, ...]) -> None:
    taps = Backbone(name, NODES[name]).taps
    assert taps == tuple(Tap(n, c, s) for n, c, s in zip(NODES[name], channels, strides, strict=True))


@pytest.mark.parametrize(
    ("name", "tap"),
    [("efficientnet_b5", Tap("features.6", 304, 32)), ("swin_b", Tap("features.5", 512, 16))],
)
def test_late_stages(name: str, tap: Tap) -> None:
    assert Backbone(name, [tap.node]).taps == (tap,)


def test_strides_that_divide_nothing_and_channels_in_last_place_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    class Odd(torch.nn.Module):
        def __init__(self, weights: None) -> None:  # noqa: ARG002 - torchvision's signature
            super().__init__()
            self.patches = torch.nn.Conv2d(3, 5, 22, stride=22)
            self.last = Permute([0, 2, 3, 1])
            self.padded = torch.nn.Conv2d(3, 7, 13, stride=13, padding=12)
            self.both = torch.nn.Flatten()

        def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
            return self.last(self.patches(images)), self.both(self.padded(images))

    monkeypatch.setattr("inference.detectors.backbones.BACKBONES", ("odd",))
    monkeypatch.setattr(models, "odd", Odd, raising=False)
    odd = Backbone("odd", ["last", "patches", "padded"])
    assert odd.taps == (Tap("last", 5, 22), Tap("patches", 5, 22), Tap("padded", 7, 13))
    assert odd.shapes(100, 50) == [(5, 2, 4), (5, 2, 4), (7, 5, 9)]


# Swin's window of 7 cells is padded in a map of 16x24 cells, and shifted in one of more than 7.
@pytest.mark.parametrize("name", ["resnet18", "efficientnet_b5", "swin_b"])
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
        if name == "swin_b":  # torchvision's has the channels last
            wanted = wanted.permute(0, 3, 1, 2)  # noqa: PLW2901 - the same features
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4 * float(wanted.abs().max()))


@pytest.mark.parametrize("name", ["resnet18", "swin_b"])
def test_shapes_are_what_forward_gives_for_odd_sizes_too(name: str) -> None:
    backbone = Backbone(name, NODES[name][:2])
    for width, height in ((91, 50), (96, 64)):
        found = [tuple(f.shape[1:]) for f in backbone(torch.rand(1, 3, height, width))]
        assert found == backbone.shapes(width, height)


@pytest.mark.parametrize("size", [224, 256, 448, 768])
def test_swin_has_one_cell_per_stride_at_every_size(size: int) -> None:
    backbone = Backbone("swin_b", ["features.1", "features.3", "features.5"])
    assert backbone.shapes(size, size) == [(tap.channels, *[size // tap.stride] * 2) for tap in backbone.taps]


@pytest.mark.parametrize("name", ["efficientnet_b7", "swin_b"])
def test_features_do_not_depend_on_the_batch_nor_on_chance(name: str) -> None:
    backbone = Backbone(name, NODES[name])
    with capture_logs():
        load_backbone_weights(backbone, "random")
    images = torch.rand(3, 3, 128, 96, generator=torch.Generator().manual_seed(1))
    together, again, alone = backbone(images), backbone(images), backbone(images[1:2])
    for one, other, single in zip(together, again, alone, strict=True):
        assert torch.equal(one, other)
        assert bool(one.isfinite().all())
        assert float((one[0] - one[1]).std()) > 0.01
        torch.testing.assert_close(one[1:2], single, rtol=1e-4, atol=1e-4 * float(single.abs().max()))


def test_only_layers_up_to_the_last_tap_are_needed() -> None:
    assert all(key.startswith(("conv1", "bn1", "layer1")) for key in Backbone("resnet18", ["layer1"]).expected())
    assert not any(key.endswith("num_batches_tracked") for key in Backbone("resnet18", RESNET).expected())
    assert not any(key.endswith("position_index") for key in Backbone("swin_b", ["features.1"]).expected())


def test_it_is_frozen_and_never_in_training_mode() -> None:
    backbone, _ = counted("resnet18")
    holder = torch.nn.Sequential(backbone).train()
    assert not any(module.training for module in holder[0].modules())
    assert not any(p.requires_grad for p in backbone.parameters())


@pytest.mark.parametrize(("name", "node"), [("resnet18", "layer1"), ("swin_b", "features.1")])
def test_without_weights_it_refuses_and_its_features_are_no_numbers(name: str, node: str) -> None:
    backbone = Backbone(name, [node])
    with pytest.raises(WeightsError, match=f"{name} has no weights yet"):
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
