"""What one image costs a detector, counted on a twin of it that has shapes but no values.

Counted are multiply-accumulate operations of convolutions and matrix products (linear layers, einsum, attention), as
the literature does. Additions, comparisons and what is done once per value are not: biases, norms, activations,
pooling, interpolation, sorting and `topk`. `torch.cdist` by subtraction would be missed too; the detectors measure
distances by products, and again by subtraction for the few neighbours found.
"""

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from inference.detectors.backbones import Backbone
from inference.detectors.base import Detector
from inference.detectors.gallery import Gallery

TYPICAL_IMAGES = 242
"""Training images that an empty gallery is taken to remember: the mean of MVTec AD's 15 categories."""


@dataclass(frozen=True, slots=True)
class Costs:
    """Counts of one detector; its head is all that is not inside a `Backbone`.

    Attributes:
        macs: multiply-accumulate operations of judging one image.
        head_macs: those of the head.
        parameters: parameters and learned statistics, `Detector.parameter_count`.
        head_parameters: those of the head.
        trainable_parameters: those that gradients change; none of a detector that estimates or remembers.
    """

    macs: int
    head_macs: int
    parameters: int
    head_parameters: int
    trainable_parameters: int


def count_costs(detector: Detector) -> Costs:
    """Count what judging one image takes; the detector is left as it is and need not be fitted.

    Nothing is computed, so that the largest costs no memory and the time of its Python alone.
    """
    twin = _without_values(detector)
    backbones = [module for module in twin.modules() if isinstance(module, Backbone)]
    counter = FlopCounterMode(display=False)
    entered: list[int] = []
    left: list[int] = []
    for backbone in backbones:
        backbone.register_forward_pre_hook(lambda *_: entered.append(counter.get_total_flops()))
        backbone.register_forward_hook(lambda *_: left.append(counter.get_total_flops()))
    width, height = twin.settings.image_size
    with torch.no_grad(), counter:
        twin(torch.empty(1, 3, height, width, device="meta"))
    total, inside = counter.get_total_flops(), sum(left) - sum(entered)
    parameters = twin.parameter_count()
    return Costs(
        macs=total // 2,
        head_macs=(total - inside) // 2,
        parameters=parameters,
        head_parameters=parameters - sum(t.numel() for b in backbones for t in [*b.parameters(), *b.buffers()]),
        trainable_parameters=sum(p.numel() for p in twin.parameters() if p.requires_grad),
    )


def count_macs(detector: Detector) -> int:
    """Multiply-accumulate operations of judging one image: convolutions and matrix products, backbone included."""
    return count_costs(detector).macs


def _without_values(detector: Detector) -> Detector:
    """Copy a detector to the meta device, in eval mode; an empty gallery gets a typical length."""
    empty: dict[int, Tensor] = {}  # `deepcopy` takes what it finds here for copies already made
    for parameter in detector.parameters():
        empty[id(parameter)] = nn.Parameter(parameter.detach().to("meta"), requires_grad=parameter.requires_grad)
    for buffer in detector.buffers():
        empty[id(buffer)] = buffer.to("meta")
    twin = copy.deepcopy(detector, empty).eval()
    for module in twin.modules():
        if isinstance(module, Gallery) and len(module) == 1:
            module.begin(TYPICAL_IMAGES)
    return twin
