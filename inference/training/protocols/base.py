"""What a protocol is: everything about a dataset that makes figures comparable with a paper's.

- **Split.** Good pictures to learn from and pictures to judge, category by category; one model per category. Nothing
  of the test pictures reaches the fitting.
- **Geometry.** How pictures and masks become inputs, alike for learning and judging.
- **Conventions.** What a category is called, whether image labels are of frames, whether all categories are also
  judged as one, and what value marks a defect in a mask.

Whatever changes the figures raises `version`, so that results of before are not taken for results of now.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from inference.errors import DataError
from inference.training.protocols import PROTOCOLS, protocol_class
from inference.training.protocols.geometry import Geometry, Size
from inference.training.protocols.pictures import Sizes, TestPicture, TrainingSet


@dataclass(frozen=True, slots=True)
class Split:
    """One category.

    Attributes:
        train: good pictures to learn from.
        tests: pictures to judge; none when `unjudged` says why.
        masks: whether the tests' masks are known.
        content: names the pictures, see `inference.training.protocols.pictures.content`.
        sizes: notices pictures of unlike sizes.
        unjudged: why the category has no ground truth; empty: it has.
    """

    train: TrainingSet
    tests: Sequence[TestPicture]
    masks: bool
    content: str
    sizes: Sizes
    unjudged: str = ""


class PaperProtocol(ABC):
    """A dataset below a folder, and how papers use it.

    Args:
        root: the folder.
        every: of training videos, each `every`-th frame is learned from; 1 for datasets without videos.

    Raises:
        DataError: the folder does not hold this dataset.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    version: ClassVar[int] = 1
    layout: ClassVar[str]
    """What the root holds, for errors."""
    source: ClassVar[str]
    """Who published the dataset."""
    complete: ClassVar[int]
    """Judged categories of the whole dataset: what papers' means are over."""
    unit: ClassVar[str] = "category"
    units: ClassVar[str] = "categories"
    level: ClassVar[str] = "image"
    """What an image-level label is of: `image`, or `frame` of a video."""
    pooled: ClassVar[bool] = False
    """Whether figures over the scores of all categories together are stated too, beside their mean."""
    videos: ClassVar[bool] = False
    notes: ClassVar[tuple[str, ...]] = ()
    """What a reader of the figures must know."""

    def __init__(self, root: Path, *, every: int = 1) -> None:
        if every > 1 and not self.videos:
            raise DataError(f"every {every}: {self.title} has no training videos to leave frames out of")
        self.root, self.every = root, every
        self.categories = self._found()

    @classmethod
    @abstractmethod
    def find(cls, root: Path) -> list[str]:
        """Categories below an existing folder, in their usual order; none when it is not this dataset."""

    @abstractmethod
    def split(self, category: str) -> Split:
        """Pair the pictures of a category with what is known about them; reads no pictures but small masks.

        Raises:
            DataError: no good pictures or only one, no good or no defective tests, or masks that do not fit them.
        """

    def geometry(self, detector: str, usual: Size, asked: Size | None = None) -> Geometry:  # noqa: ARG002 - of subclasses
        """How pictures become inputs.

        Args:
            detector: its name: papers differ.
            usual: the detector's own input size.
            asked: input size a person asked for.
        """
        return Geometry(asked or usual)

    def choose(self, names: Sequence[str] = ()) -> list[str]:
        """The categories of these names; all when there are no names.

        Raises:
            DataError: there is none of a name.
        """
        for name in names:
            if name not in self.categories:
                raise DataError(f"{self.root} has no {self.unit} {name!r}: it has {', '.join(self.categories)}")
        return [category for category in self.categories if not names or category in names]

    def _found(self) -> list[str]:
        if not self.root.is_dir():
            raise DataError(f"{self.root} is no folder: name the one that holds {self.title} ({self.layout})")
        if categories := self.find(self.root):
            return categories
        others = [name for name in PROTOCOLS if name not in (self.name, "rd-mvtec")]
        like = next((name for name in others if protocol_class(name).find(self.root)), None)
        hint = ""
        if like is not None:
            hint = f"; it looks like --dataset {like}"
        elif self.root.absolute().name in self.find(self.root.absolute().parent):
            hint = f"; this is one {self.unit} of it: name the folder above, and --categories {self.root.name}"
        raise DataError(f"{self.root} does not hold {self.title}: expected {self.layout}{hint}")


def both_kinds(tests: Sequence[TestPicture], where: Path) -> None:
    """Refuse tests on which nothing can be measured.

    Raises:
        DataError: none of them is good, or none is defective.
    """
    if not any(not test.anomalous for test in tests):
        raise DataError(f"{where} has no good test pictures: false alarms cannot be counted without them")
    if not any(test.anomalous for test in tests):
        raise DataError(f"{where} has no defective test pictures: there is nothing to find")


def subfolders(folder: Path) -> list[str]:
    """Names of the folders in a folder, sorted; hidden ones are left out, and there are none where none can be seen."""
    try:
        return sorted(f.name for f in folder.iterdir() if f.is_dir() and not f.name.startswith("."))
    except OSError:
        return []
