"""VisA, visual anomaly: twelve products photographed from above, one model each.

Zou et al.: SPot-the-Difference self-supervised pre-training for anomaly detection and segmentation, ECCV 2022. The
split is the authors' one-class one, `split_csv/1cls.csv`. Masks hold the number of the kind of defect, not 255.
"""

import csv
from pathlib import Path
from typing import ClassVar

from inference.errors import DataError
from inference.training.datasets import at_least_two
from inference.training.protocols.base import PaperProtocol, Split, both_kinds
from inference.training.protocols.pictures import MaskFile, PictureFiles, Sizes, TestPicture, content

_TABLE = Path("split_csv") / "1cls.csv"
_COLUMNS = ("object", "split", "label", "image", "mask")


class Visa(PaperProtocol):
    """The protocol: the products of the table whose folders are there."""

    name: ClassVar[str] = "visa"
    title: ClassVar[str] = "VisA"
    layout: ClassVar[str] = "split_csv/1cls.csv and <product>/Data/{Images/Normal, Images/Anomaly, Masks/Anomaly}"
    source: ClassVar[str] = "Zou et al., ECCV 2022"
    complete: ClassVar[int] = 12
    unit: ClassVar[str] = "product"
    units: ClassVar[str] = "products"

    @classmethod
    def find(cls, root: Path) -> list[str]:
        """Products of the table whose folders are there."""
        return [name for name in sorted({row["object"] for row in _rows(root)}) if (root / name).is_dir()]

    def split(self, category: str) -> Split:
        """Take the pictures the table names."""
        folder, table = self.root / category, self.root / _TABLE
        train: list[Path] = []
        tests: list[TestPicture] = []
        files: list[Path] = []
        for row in (row for row in _rows(self.root) if row["object"] == category):
            path, mask = self.root / row["image"], self.root / row["mask"] if row["mask"] else None
            for file in (path, mask):
                if file is not None and not file.is_file():
                    raise DataError(f"{file} is missing, but {table} names it: fetch the dataset again")
                files += [] if file is None else [file]
            normal = row["label"] == "normal"
            if normal == (mask is not None):
                raise DataError(f"{table} calls {row['image']} {row['label']} and its mask {row['mask'] or 'none'!r}")
            if row["split"] == "test":
                tests.append(TestPicture(path, not normal, None if mask is None else MaskFile(mask, above=0)))
            elif normal:
                train.append(path)
        both_kinds(tests, folder)
        sizes = Sizes(str(folder))
        learned = PictureFiles(self.root, at_least_two(train, folder), sizes)
        return Split(learned, tests, masks=True, content=content(self.root, files), sizes=sizes)


def _rows(root: Path) -> list[dict[str, str]]:
    """Rows of the table; none when there is no table."""
    table = root / _TABLE
    if not table.is_file():
        return []
    try:
        with table.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            missing = [column for column in _COLUMNS if column not in (reader.fieldnames or ())]
            if missing:
                raise DataError(f"{table} has no column {missing[0]!r}: it needs {', '.join(_COLUMNS)}")
            return [{column: row[column] or "" for column in _COLUMNS} for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as exc:
        raise DataError(f"{table} cannot be read: {exc}") from exc
