"""BTAD, beanTech anomaly detection: three products, one model each.

Mishra et al.: VT-ADL: a vision transformer network for image anomaly detection and localization, ISIE 2021.
"""

from pathlib import Path
from typing import ClassVar

from inference.errors import DataError
from inference.training.datasets import at_least_two, pictures_in
from inference.training.protocols.base import PaperProtocol, Split, both_kinds, subfolders
from inference.training.protocols.pictures import MaskFile, PictureFiles, Sizes, TestPicture, content


class Btad(PaperProtocol):
    """The protocol: products 01, 02 and 03."""

    name: ClassVar[str] = "btad"
    title: ClassVar[str] = "BTAD"
    layout: ClassVar[str] = "{01,02,03}/{train/ok, test/ok, test/ko, ground_truth/ko}"
    source: ClassVar[str] = "Mishra et al., ISIE 2021"
    complete: ClassVar[int] = 3
    unit: ClassVar[str] = "product"
    units: ClassVar[str] = "products"

    @classmethod
    def find(cls, root: Path) -> list[str]:
        """Folders that have a train/ok."""
        return [name for name in subfolders(root) if (root / name / "train" / "ok").is_dir()]

    def split(self, category: str) -> Split:
        """Pair pictures and masks by name; masks are BMP for some products and PNG for others."""
        folder = self.root / category
        train = at_least_two(pictures_in(folder / "train" / "ok"), folder / "train" / "ok")
        good, bad = (pictures_in(folder / "test" / kind) for kind in ("ok", "ko"))
        truth = folder / "ground_truth" / "ko"
        masks = {mask.stem: mask for mask in pictures_in(truth)}
        for path in bad:
            if path.stem not in masks:
                raise DataError(f"test image {path} has no mask: expected {truth / path.stem}.png or .bmp")
        if stray := sorted(masks.keys() - {path.stem for path in bad}):
            raise DataError(f"mask {masks[stray[0]]} has no image in {folder / 'test' / 'ko'}: remove it")
        tests = [TestPicture(path, anomalous=False) for path in good]
        tests += [TestPicture(path, anomalous=True, truth=MaskFile(masks[path.stem])) for path in bad]
        both_kinds(tests, folder / "test")
        sizes = Sizes(str(folder))
        named = content(self.root, [*train, *good, *bad, *masks.values()])
        return Split(PictureFiles(self.root, train, sizes), tests, masks=True, content=named, sizes=sizes)
