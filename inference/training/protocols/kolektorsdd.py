"""KolektorSDD: 50 commutators, eight pictures each, 52 of the 399 pictures with a crack.

Tabernik et al.: Segmentation-based deep-learning approach for surface-defect detection, JIM 2020. The authors' three
folds, which supervised and unsupervised papers use, come in a file of Python objects that is not read here: it could
run code. So the folds are drawn here, by commutator: no part is in training and test at once.
"""

from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np

from inference.errors import DataError
from inference.training.datasets import at_least_two, pictures_in
from inference.training.protocols.base import PaperProtocol, Split, both_kinds, subfolders
from inference.training.protocols.pictures import MaskFile, PictureFiles, Sizes, TestPicture, content
from ingest.errors import ImageError
from ingest.pictures import read_picture

FOLDS = 3
SEED = 0
"""Of the draw of folds; the same for every detector and every seed of theirs."""
_LABEL = "_label"


class Kolektorsdd(PaperProtocol):
    """The protocol: in each fold a third of the commutators is judged by a model of the good pictures of the others."""

    name: ClassVar[str] = "kolektorsdd"
    title: ClassVar[str] = "KolektorSDD"
    layout: ClassVar[str] = "kosNN/{PartN.jpg, PartN_label.bmp}"
    source: ClassVar[str] = "Tabernik et al., JIM 2020"
    complete: ClassVar[int] = 3
    unit: ClassVar[str] = "fold"
    units: ClassVar[str] = "folds"
    notes: ClassVar[tuple[str, ...]] = (
        f"The {FOLDS} folds are drawn by commutator with seed {SEED}; they are not the authors'.",
    )

    @classmethod
    def find(cls, root: Path) -> list[str]:
        """Folds; enough commutators for them must be there."""
        return [f"fold-{n}" for n in range(1, FOLDS + 1)] if len(_commutators(root)) >= FOLDS else []

    def split(self, category: str) -> Split:
        """Judge all pictures of the fold's commutators, learn from the good ones of the others."""
        order = np.random.default_rng(SEED).permutation(_commutators(self.root)).tolist()
        fold = np.array_split(np.asarray(order), FOLDS)[int(category.rpartition("-")[2]) - 1]
        judged = {self.root / str(commutator) for commutator in fold}
        train = [p.path for p in self._pictures if p.path.parent not in judged and not p.anomalous]
        tests = [p for p in self._pictures if p.path.parent in judged]
        both_kinds(tests, self.root / category)
        files = [*train, *(p.path for p in tests)]
        # The camera's pictures differ in height from part to part.
        sizes = Sizes(str(self.root), quiet=True)
        learned = PictureFiles(self.root, at_least_two(train, self.root), sizes)
        return Split(learned, tests, masks=True, content=content(self.root, files), sizes=sizes)

    @cached_property
    def _pictures(self) -> list[TestPicture]:
        """All pictures; which are defective only their labels say."""
        found = []
        for folder in (self.root / name for name in _commutators(self.root)):
            files = pictures_in(folder)
            labels = {f.stem.removesuffix(_LABEL): f for f in files if f.stem.endswith(_LABEL)}
            pictures = {f.stem: f for f in files if not f.stem.endswith(_LABEL)}
            if alone := sorted(labels.keys() - pictures.keys()):
                raise DataError(f"mask {labels[alone[0]]} has no image {alone[0]}.jpg beside it: remove it")
            for stem, path in pictures.items():
                if stem not in labels:
                    raise DataError(f"image {path} has no mask: expected {folder / stem}{_LABEL}.bmp")
                found.append(_labelled(path, labels[stem]))
        return found


def _labelled(path: Path, label: Path) -> TestPicture:
    try:
        marked = bool(read_picture(label).any())
    except ImageError as exc:
        raise DataError(f"mask {label} cannot be used: {exc}") from exc
    return TestPicture(path, marked, MaskFile(label, above=0) if marked else None)


def _commutators(root: Path) -> list[str]:
    return [name for name in subfolders(root) if name.startswith("kos")]
