import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import cv2
import numpy as np
import pytest
import torch
from structlog.testing import capture_logs

from inference.errors import DataError
from inference.training.datasets import TestSet, calibration_images, fingerprint, good_images
from inference.training.images import SpooledImages, TensorImages, ahead, groups
from ingest.preprocess import Preprocessing, prepare
from ingest.sources.base import Grab

SMALL = Preprocessing(size=(32, 24))


def save(path: Path, value: int = 100, size: tuple[int, int] = (60, 40)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.full((size[1], size[0], 3), value, np.uint8))
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A small set in MVTec AD's layout."""
    for i in range(12):
        save(tmp_path / "train/good" / f"{i:02}.png", 10 * i)
    for i in range(3):
        save(tmp_path / "calibration/good" / f"{i}.png", 50 + i)
        save(tmp_path / "test/good" / f"{i}.png", 70 + i)
        save(tmp_path / "test/hole" / f"{i}.jpg", 90 + i)
        mask = np.zeros((40, 60), np.uint8)
        mask[10:20, 30:45] = 255
        (tmp_path / "ground_truth/hole").mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(tmp_path / "ground_truth/hole" / f"{i}_mask.png"), mask)
    return tmp_path


def test_mvtec_layout_is_found_and_prepared(root: Path) -> None:
    good = good_images(str(root), SMALL)
    pictures = list(good.train)
    assert len(good.train) == len(pictures) == 12
    assert [int(p[0, 0, 0]) for p in pictures] == [10 * i for i in range(12)]
    assert pictures[0].shape == (24, 32, 3)
    assert good.calibration is not None
    assert len(good.calibration) == 3
    assert not good.video


def test_flat_folder_is_all_good(root: Path) -> None:
    folder = root / "train/good"
    (folder / "notes.txt").write_text("no image")
    (folder / "._00.png").write_bytes(b"a Mac's shadow of a file")
    good = good_images(str(folder), SMALL)
    assert len(good.train) == 12
    assert good.calibration is None


def test_video_file_is_spooled_and_read_in_any_order(tmp_path: Path) -> None:
    film = tmp_path / "film.avi"
    writer = cv2.VideoWriter(str(film), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (64, 48))
    for i in range(20):
        writer.write(np.full((48, 64, 3), 10 * i, np.uint8))
    writer.release()
    good = good_images(str(film), SMALL, every=3, limit=5)
    assert good.video
    assert len(good.train) == 5
    levels = [int(p.mean()) for p in good.train]
    assert levels == pytest.approx([0, 30, 60, 90, 120], abs=4)
    assert [int(p.mean()) for p in good.train.select([4, 0])] == pytest.approx([120, 0], abs=4)
    again = good_images(str(film), SMALL, every=3, limit=5)
    assert again.fingerprint == good.fingerprint


class Broken:
    """A camera whose every picture is corrupt."""

    live = True
    fps = None

    def __init__(self, good_ones: int = 0) -> None:
        self.good_ones = good_ones

    def grab(self) -> Grab | None:
        self.good_ones -= 1
        return Grab(np.zeros((48, 64, 3), np.uint8) if self.good_ones >= 0 else None, name="frame")

    def close(self) -> None: ...


@pytest.mark.parametrize("good_ones", [0, 50])
def test_camera_that_only_fails_is_not_waited_for(good_ones: int) -> None:
    with pytest.raises(DataError, match=r"cannot be used.*could not be decoded"):
        SpooledImages.spool(Broken(good_ones), "usb:0", SMALL, every=1, limit=100)


def test_one_corrupt_image_is_left_out_with_a_warning(root: Path) -> None:
    (root / "train/good/03.png").write_bytes(b"not a picture")
    good = good_images(str(root), SMALL)
    with capture_logs() as logs:
        assert len(list(good.train)) == 11
        assert len(good.train) == 11
        assert len(list(good.train)) == 11
    assert len(logs) == 1
    assert logs[0]["image"].endswith("03.png")


def test_many_corrupt_images_are_an_error_that_names_one(root: Path) -> None:
    for name in ("03", "04"):
        (root / f"train/good/{name}.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"2 of 12 images cannot be used.*04\.png"):
        list(good_images(str(root), SMALL).train)


def test_select_counts_readable_images_only(root: Path) -> None:
    (root / "train/good/00.png").write_bytes(b"")
    images = good_images(str(root), SMALL).train
    list(images)
    assert [int(p[0, 0, 0]) for p in images.select([0, 10])] == [10, 110]


def test_region_of_interest_outside_a_picture_is_named(root: Path) -> None:
    with pytest.raises(DataError, match="region of interest"):
        list(good_images(str(root), Preprocessing(size=(32, 24), roi=(0, 0, 61, 40))).train)


def test_unusable_good_data_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no good images"):
        good_images(str(tmp_path / "empty"), SMALL)
    lonely = save(tmp_path / "one/a.png")
    with pytest.raises(DataError, match=r"one good image, a\.png"):
        good_images(str(tmp_path / "one"), SMALL)
    with pytest.raises(DataError, match="is one image"):
        good_images(str(lonely), SMALL)
    (tmp_path / "half/train").mkdir(parents=True)
    with pytest.raises(DataError, match="no train/good"):
        good_images(str(tmp_path / "half"), SMALL)


def test_fingerprint_follows_content_and_names_not_place(tmp_path: Path) -> None:
    a = [save(tmp_path / "x" / "1.png", 1), save(tmp_path / "x" / "2.png", 2)]
    b = [save(tmp_path / "y" / "2.png", 2), save(tmp_path / "y" / "1.png", 1)]
    swapped = [save(tmp_path / "z" / "1.png", 2), save(tmp_path / "z" / "2.png", 1)]
    assert fingerprint(a) == fingerprint(b) != fingerprint(swapped)


def test_calibration_on_train_or_test_by_mistake_is_refused(root: Path) -> None:
    assert len(calibration_images(root, SMALL)[0]) == 3
    for image in (root / "calibration/good").iterdir():
        image.unlink()
    with pytest.raises(DataError, match="no good images"):
        calibration_images(root, SMALL)
    (root / "calibration/good").rmdir()
    with pytest.raises(DataError, match="no calibration/good"):
        calibration_images(root, SMALL)


def test_batches_are_those_of_serving_scaled_to_one(root: Path) -> None:
    images = good_images(str(root), SMALL).train
    tensors = TensorImages(images, fingerprint="f", size=5, seed=0, device=torch.device("cpu"))
    first = list(tensors.stream())
    assert [tuple(b.shape) for b in first] == [(5, 3, 24, 32), (5, 3, 24, 32), (2, 3, 24, 32)]
    assert first[0].dtype == torch.float32
    levels = sorted(round(float(v) * 255) for b in first for v in b[:, 0, 0, 0])
    assert levels == [10 * i for i in range(12)]
    taken = tensors.take([3, 1])
    assert taken.shape == (2, 3, 24, 32)
    assert [round(float(v) * 255) for v in taken[:, 0, 0, 0]] == [30, 10]


def test_batches_are_shuffled_anew_in_each_pass_and_repeatable(root: Path) -> None:
    def orders() -> list[list[float]]:
        images = good_images(str(root), SMALL).train
        tensors = TensorImages(images, fingerprint="f", size=4, seed=3, device=torch.device("cpu"))
        return [[float(v) for b in tensors.stream() for v in b[:, 0, 0, 0]] for _ in range(2)]

    first, second = orders()
    assert first != second
    assert [first, second] == orders()


def test_reading_ahead_passes_errors_on_and_leaves_no_thread() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise DataError("broken")

    reader = ahead(items())
    assert next(reader) == 1
    with pytest.raises(DataError, match="broken"):
        next(reader)
    endless = ahead(iter(int, 1))
    next(endless)
    endless.close()
    assert not [t for t in threading.enumerate() if "ThreadPoolExecutor" in t.name]


def test_groups_of_nothing_are_none() -> None:
    assert list(groups([], 4)) == []


def test_test_set_pairs_images_with_masks(root: Path) -> None:
    tests = TestSet(root, SMALL)
    read = list(tests)
    assert [image.kind for image, _, _ in read] == ["good"] * 3 + ["hole"] * 3
    assert not any(mask.any() for image, _, mask in read if image.good)
    _, picture, mask = read[-1]
    assert mask.shape == picture.shape[:2] == (24, 32)
    assert mask.mean() == pytest.approx(10 * 15 / (40 * 60), rel=0.15)


def test_mask_is_cut_like_its_image(root: Path) -> None:
    cut = Preprocessing(size=(16, 16), roi=(30, 10, 45, 20), mask=((30, 10), (36, 10), (36, 20), (30, 20)))
    *_, (image, picture, mask) = TestSet(root, cut)
    assert image.kind == "hole"
    inside = picture[..., 0] != prepare(np.zeros((40, 60, 3), np.uint8), cut)[0, -1, 0]
    assert mask[:, :6].all()
    assert not mask[:, 9:].any()
    assert np.mean(inside == mask) > 0.85


def test_set_without_ground_truth_has_no_masks(root: Path) -> None:
    for mask in (root / "ground_truth/hole").iterdir():
        mask.unlink()
    (root / "ground_truth/hole").rmdir()
    (root / "ground_truth").rmdir()
    tests = TestSet(root, SMALL)
    assert not tests.has_masks
    assert len(list(tests)) == 6


def test_missing_mask_is_named(root: Path) -> None:
    (root / "ground_truth/hole/1_mask.png").unlink()
    with pytest.raises(DataError, match=r"hole/1\.jpg has no mask: expected .*1_mask\.png"):
        TestSet(root, SMALL)


def test_mask_without_an_image_is_named(root: Path) -> None:
    (root / "test/hole/1.jpg").unlink()
    with pytest.raises(DataError, match=r"1_mask\.png has no image"):
        TestSet(root, SMALL)


def test_mask_of_the_wrong_size_is_named_with_both_sizes(root: Path) -> None:
    save(root / "ground_truth/hole/2_mask.png", 255, size=(30, 40))
    with pytest.raises(DataError, match=r"2_mask\.png is 30x40, its image 60x40"):
        list(TestSet(root, SMALL))


def test_mask_that_marks_nothing_is_named(root: Path) -> None:
    save(root / "ground_truth/hole/0_mask.png", 1)
    with pytest.raises(DataError, match=r"0_mask\.png marks nothing.*highest value here is 1"):
        list(TestSet(root, SMALL))


def test_mask_may_be_painted_in_any_colour(root: Path) -> None:
    grey = {image.path.name: mask for image, _, mask in TestSet(root, SMALL) if not image.good}
    for number, colour in enumerate([(255, 0, 0), (0, 255, 0), (0, 0, 255)]):
        painted = np.zeros((40, 60, 3), np.uint8)
        painted[10:20, 30:45] = colour
        cv2.imwrite(str(root / "ground_truth/hole" / f"{number}_mask.png"), painted)
    for image, _, mask in TestSet(root, SMALL):
        assert image.good or np.array_equal(mask, grey[image.path.name])


def test_corrupt_test_image_is_an_error(root: Path) -> None:
    (root / "test/good/1.png").write_bytes(b"\x89PNG")
    with pytest.raises(DataError, match=r"test image .*1\.png cannot be used"):
        list(TestSet(root, SMALL))


def test_test_set_without_good_or_defective_images_is_refused(root: Path) -> None:
    for image in (root / "test/good").iterdir():
        image.unlink()
    with pytest.raises(DataError, match="no good images"):
        TestSet(root, SMALL)
    save(root / "test/good/0.png")
    for image in [*(root / "test/hole").iterdir()]:
        image.unlink()
    with pytest.raises(DataError, match="no defective images"):
        TestSet(root, SMALL)
    with pytest.raises(DataError, match="no test folder"):
        TestSet(root / "train", SMALL)


def test_a_full_temporary_folder_is_one_line(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = good_images(str(root), SMALL).train

    def full(*, buffering: int) -> IO[bytes]:
        return Path("/dev/full").open("r+b", buffering=buffering)

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    with pytest.raises(DataError, match=r"no room in .* for 12 images of 32x24: point TMPDIR elsewhere"):
        SpooledImages.copy(images)
