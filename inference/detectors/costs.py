"""What one image costs a detector, counted while it runs."""

import torch
from torch.utils.flop_counter import FlopCounterMode

from inference.detectors.base import Detector


def count_macs(detector: Detector) -> int:
    """Multiply-accumulate operations of judging one image: convolutions and matrix products, backbone included."""
    width, height = detector.settings.image_size
    device = next((t.device for t in [*detector.parameters(), *detector.buffers()]), torch.device("cpu"))
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        detector(torch.zeros(1, 3, height, width, device=device))
    return counter.get_total_flops() // 2
