"""Frozen ImageNet networks whose intermediate features the detectors learn from.

A backbone is torchvision's network cut after its last tapped node (`create_feature_extractor`), with every batch
normalisation folded into the convolution before it: the same function of the image, a third cheaper on a CPU. (Swin
has none: its layer normalisations depend on the image.)
Until weights are loaded its parameters are NaN, so that a forgotten load cannot pass for a network.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal, get_args

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchvision import models
from torchvision.models.feature_extraction import create_feature_extractor
from torchvision.models.swin_transformer import ShiftedWindowAttention

from inference.errors import InferenceError, WeightsError

BackboneName = Literal["resnet18", "resnet50", "wide_resnet50_2", "efficientnet_b5", "efficientnet_b7", "swin_b"]
BACKBONES: tuple[str, ...] = get_args(BackboneName)

_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)
_DRY_SIZE = 10_080  # pixels; divisible by 1 to 10, 16 and 32, and so large that rounding finds every other stride


@dataclass(frozen=True, slots=True)
class Tap:
    """One tapped node: its name, its channels, and how many input pixels one of its cells stands for."""

    node: str
    channels: int
    stride: int


class Backbone(nn.Module):
    """A frozen feature extractor in eval mode; ImageNet normalisation is inside.

    Attributes:
        name: torchvision's name of the network.
        taps: what `forward` returns, in the order asked for; counted by a dry run.
        sha256: hash of the weights' source once loaded, see `inference.weights`.
        trainable: whether gradients reach it; folded batch norms then learn as part of their convolutions.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, name: str, nodes: Sequence[str], *, trainable: bool = False) -> None:
        super().__init__()
        self.name = name
        self.trainable = trainable
        self.nodes = tuple(nodes)
        self.sha256: str | None = None
        self.taps, self._axes = _inspect(name, self.nodes)
        folded = copy.deepcopy(_outline(name, self.nodes))
        computed = {key: tensor for key, tensor in folded.state_dict().items() if not tensor.is_meta}
        folded.to_empty(device="cpu").load_state_dict(computed, strict=False)
        for parameter in folded.parameters():
            parameter.detach().fill_(torch.nan)
        self.network = folded.to(memory_format=torch.channels_last).requires_grad_(trainable)
        self.register_buffer("mean", torch.tensor(_IMAGENET_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(_IMAGENET_STD).view(1, 3, 1, 1), persistent=False)
        self.eval()

    def train(self, mode: bool = True) -> "Backbone":  # noqa: ARG002 - frozen: the signature is nn.Module's
        """Stay in eval mode: a frozen network has no other."""
        return super().train(mode=False)

    def shapes(self, width: int, height: int) -> list[tuple[int, int, int]]:
        """Channels, height and width of each tap for an input of this size; computes nothing."""
        features = self._channels_first(_dry_run(self.name, self.nodes, width, height))
        return [(f.shape[1], f.shape[2], f.shape[3]) for f in features]

    def expected(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of torchvision's tensors this backbone needs, up to its last tapped node."""
        return expected_tensors(self.name, self.nodes)

    def load_weights(self, tensors: Mapping[str, Tensor]) -> None:
        """Take torchvision's tensors (complete for `expected`) and fold the batch norms, in float64."""
        network = _extractor(self.name, self.nodes)
        given = {name: tensors[name].double() for name in _weights(network)}
        network.load_state_dict(given, assign=True, strict=False)  # all but the integers
        self.network.load_state_dict(_fold(network).state_dict())

    def require_weights(self) -> None:
        """Refuse to work without weights.

        Raises:
            WeightsError: none were loaded.
        """
        if any(bool(p.isnan().any()) for p in self.network.parameters()):
            raise WeightsError(f"backbone {self.name} has no weights yet: load them with load_backbone_weights")

    def forward(self, images: Tensor) -> list[Tensor]:
        """Features `[B, C, h, w]` of each tap, of images `[B, 3, H, W]` in [0, 1], RGB."""
        with torch.set_grad_enabled(self.trainable and torch.is_grad_enabled()):
            normalised = ((images - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
            return self._channels_first(self.network(normalised))

    def _channels_first(self, features: Mapping[str, Tensor]) -> list[Tensor]:
        return [features[node].movedim(axis, 1) for node, axis in zip(self.nodes, self._axes, strict=True)]


def expected_tensors(name: str, nodes: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Names and shapes of torchvision's tensors that a network needs up to the last of these nodes."""
    return _weights(_extractor(name, nodes))


def _weights(network: nn.Module) -> dict[str, tuple[int, ...]]:
    # Integers are none: a batch norm's count of steps, the places in Swin's windows.
    return {key: tuple(tensor.shape) for key, tensor in network.state_dict().items() if tensor.is_floating_point()}


def _extractor(name: str, nodes: Sequence[str]) -> fx.GraphModule:
    """Cut torchvision's network after its last tapped node; on the meta device: shapes without memory or chance."""
    if name not in BACKBONES:
        raise InferenceError(f"no backbone {name!r}: choose one of {', '.join(BACKBONES)}")
    with torch.device("meta"):
        network = getattr(models, name)(weights=None).eval()
    for module in network.modules():
        if isinstance(module, ShiftedWindowAttention):
            module.define_relative_position_index()  # computed, not learned: it must be real
    try:
        extractor = create_feature_extractor(network, {node: node for node in nodes}).eval()
    except ValueError as exc:
        children = ", ".join(child for child, _ in network.named_children())
        raise InferenceError(f"{name} has no nodes {list(nodes)}: they lie in {children}") from exc
    return fx.GraphModule(extractor, extractor.graph).eval()  # sheds the copy of the graph kept for training


@cache
def _outline(name: str, nodes: tuple[str, ...]) -> fx.GraphModule:
    """The folded network without values, for dry runs and copies: not to be changed."""
    return _fold(_extractor(name, nodes))


@torch.no_grad()
def _dry_run(name: str, nodes: tuple[str, ...], width: int, height: int) -> dict[str, Tensor]:
    """Features without values, as the network gives them."""
    features: dict[str, Tensor] = _outline(name, nodes)(torch.empty(1, 3, height, width, device="meta"))
    return features


@cache
def _inspect(name: str, nodes: tuple[str, ...]) -> tuple[tuple[Tap, ...], tuple[int, ...]]:
    """Taps, and the axis of their channels: what does not shrink with the image; inside Swin it comes last."""
    whole, half = (_dry_run(name, nodes, size, size) for size in (_DRY_SIZE, _DRY_SIZE // 2))
    axes = tuple(next(axis for axis in (1, 2, 3) if whole[n].shape[axis] == half[n].shape[axis]) for n in nodes)
    shapes = [whole[node].movedim(axis, 1).shape for node, axis in zip(nodes, axes, strict=True)]
    return tuple(Tap(n, s[1], round(_DRY_SIZE / s[2])) for n, s in zip(nodes, shapes, strict=True)), axes


def _fold(network: fx.GraphModule) -> fx.GraphModule:
    """Replace each convolution followed by batch normalisation by one convolution with bias, in place."""
    for node in list(network.graph.nodes):
        if node.op != "call_module" or not isinstance(norm := network.get_submodule(node.target), nn.BatchNorm2d):
            continue
        before = node.args[0]
        convolution = network.get_submodule(before.target)
        if not isinstance(convolution, nn.Conv2d):
            raise TypeError(f"{node.target} follows a {type(convolution).__name__}: only convolutions can be folded")
        network.set_submodule(before.target, fuse_conv_bn_eval(convolution, norm))
        node.replace_all_uses_with(before)
        network.graph.erase_node(node)
    network.delete_all_unused_submodules()
    network.recompile()
    return network
