"""Training images held in memory, for tests of detectors alone."""

from collections.abc import Iterator, Sequence

from torch import Tensor


class Tensors:
    """As `inference.detectors.base.TrainingImages` has it; passes go through the images in their order."""

    def __init__(self, images: Tensor, size: int = 7, fingerprint: str = "tensors") -> None:
        self.images, self.size, self.fingerprint = images, size, fingerprint

    def __len__(self) -> int:
        return len(self.images)

    def stream(self) -> Iterator[Tensor]:
        yield from (self.images[i : i + self.size] for i in range(0, len(self.images), self.size))

    def take(self, numbers: Sequence[int]) -> Tensor:
        return self.images[list(numbers)]
