"""MVTec AD, and anything laid out like it: 15 kinds of objects and textures, one model each.

Bergmann et al.: The MVTec Anomaly Detection Dataset, IJCV 2021. The geometry is that of SPADE (arXiv 2005.02357,
section 4.1) and PaDiM (arXiv 2011.08785, section IV-B) for these detectors, who cut the border away: a defect there is
neither to be found nor counted. Other detectors see the whole picture at their own input size.
"""

from pathlib import Path
from typing import ClassVar

from inference.training.datasets import at_least_two, paired_test_images, pictures_in
from inference.training.protocols.base import PaperProtocol, Split, subfolders
from inference.training.protocols.geometry import Geometry, Size, enlarged
from inference.training.protocols.pictures import MaskFile, PictureFiles, Sizes, TestPicture, content

CROPPED = frozenset({"padim", "spade", "patchcore"})
"""Detectors whose papers cut the centre 224x224 out of 256x256."""
CROP: Size = (224, 224)


class Mvtec(PaperProtocol):
    """The protocol; any number of categories."""

    name: ClassVar[str] = "mvtec"
    title: ClassVar[str] = "MVTec AD"
    layout: ClassVar[str] = "<category>/{train/good, test/good, test/<defect>, ground_truth/<defect>/<name>_mask.png}"
    source: ClassVar[str] = "Bergmann et al., IJCV 2021"
    complete: ClassVar[int] = 15

    @classmethod
    def find(cls, root: Path) -> list[str]:
        """Folders that have a train/good."""
        return [name for name in subfolders(root) if (root / name / "train" / "good").is_dir()]

    def geometry(self, detector: str, usual: Size, asked: Size | None = None) -> Geometry:
        """Cut the centre out where the detector's paper does."""
        if detector not in CROPPED:
            return Geometry(asked or usual)
        return Geometry(enlarged(asked or CROP), asked or CROP)

    def split(self, category: str) -> Split:
        """Pair pictures and masks by name; a dataset without any masks has image figures alone."""
        folder = self.root / category
        good = folder / "train" / "good"
        train = at_least_two(pictures_in(good), good)
        images, masks = paired_test_images(folder)
        sizes = Sizes(str(folder))
        tests = [TestPicture(i.path, not i.good, None if i.mask is None else MaskFile(i.mask)) for i in images]
        files = [*train, *(i.path for i in images), *(i.mask for i in images if i.mask is not None)]
        return Split(PictureFiles(self.root, train, sizes), tests, masks, content(self.root, files), sizes)
