import shutil
from collections.abc import Callable
from pathlib import Path
from statistics import mean

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from inference.detectors.padim import PadimSettings
from inference.errors import DataError
from inference.training.protocols import PROTOCOLS, protocol_class
from inference.training.protocols.base import PaperProtocol, Split
from inference.training.protocols.geometry import Geometry, enlarged
from inference.training.protocols.pictures import read_tests
from inference.training.protocols.published import PUBLISHED, published
from inference.training.report import silent
from tests.inference import trees
from tests.plates import plate

SIZE = (32, 32)
TREES: dict[str, Callable[[Path], Path]] = {
    "mvtec": lambda root: trees.mvtec(root, "bottle", "screw"),
    "rd-mvtec": lambda root: trees.mvtec(root, "bottle"),
    "btad": trees.btad,
    "visa": trees.visa,
    "kolektorsdd": trees.kolektorsdd,
    "stc": trees.stc,
}


@pytest.fixture(params=PROTOCOLS)
def protocol(request: pytest.FixtureRequest, tmp_path: Path) -> PaperProtocol:
    return protocol_class(request.param)(TREES[request.param](tmp_path))


def open_tree(name: str, root: Path) -> PaperProtocol:
    return protocol_class(name)(TREES[name](root))


def judged_in(protocol: PaperProtocol, split: Split, geometry: Geometry | None = None):
    return list(read_tests(protocol.root, split.tests, geometry or Geometry(SIZE), split.sizes))


def test_each_protocol_is_in_the_table_under_its_name():
    for name in PROTOCOLS:
        cls = protocol_class(name)
        assert cls.name == name
        assert cls.title
        assert cls.layout
        assert cls.source
    with pytest.raises(DataError, match="no dataset 'nope': choose one of mvtec"):
        protocol_class("nope")


def test_every_layout_is_read(protocol):
    geometry = protocol.geometry("padim", (64, 64), SIZE)
    for category in protocol.categories:
        split = protocol.split(category)
        pictures = list(split.train.images(geometry, silent))
        assert len(pictures) == len(split.train) >= 4
        assert all(p.shape == (32, 32, 3) and p.dtype == np.uint8 for p in pictures)
        if split.unjudged:
            continue
        read = judged_in(protocol, split, geometry)
        assert {test.anomalous for test, _, _ in read} == {True, False}
        for test, picture, mask in read:
            assert picture.shape == (32, 32, 3)
            assert mask.shape == (32, 32)
            assert mask.any() == test.anomalous
            if mask.any() and not geometry.turn:
                red = picture[..., 0].astype(int) - picture[..., 1]
                assert red[mask].mean() > 100 > red[~mask].mean()


def test_nothing_is_learned_from_and_judged(protocol):
    for category in protocol.categories:
        split = protocol.split(category)
        learned = set(getattr(split.train, "paths", ()))
        assert not learned & {test.path for test in split.tests}


def test_content_tells_datasets_apart(protocol, tmp_path):
    category = protocol.categories[0]
    before = protocol.split(category).content
    assert protocol_class(protocol.name)(tmp_path).split(category).content == before
    test = protocol.split(category).tests[0].path
    trees.save(test, plate(9000))
    if test.suffix == ".bmp":  # as large as before, whatever it shows
        test.unlink()
        shutil.copy(protocol.split(category).tests[0].path, test.with_stem("more"))
    assert protocol_class(protocol.name)(tmp_path).split(category).content != before


@pytest.mark.parametrize("name", [name for name in PROTOCOLS if name not in ("rd-mvtec", "mvtec")])
def test_root_of_another_dataset_is_recognised(name, tmp_path):
    TREES[name](tmp_path)
    with pytest.raises(
        DataError, match=rf"does not hold MVTec AD: expected <category>.*; it looks like --dataset {name}"
    ):
        protocol_class("mvtec")(tmp_path)


def test_wrong_roots_are_explained(tmp_path):
    with pytest.raises(DataError, match="nothing is no folder: name the one that holds BTAD"):
        protocol_class("btad")(tmp_path / "nothing")
    with pytest.raises(DataError, match=r"does not hold VisA: expected split_csv/1cls\.csv and [^;]*$"):
        protocol_class("visa")(tmp_path)
    trees.mvtec(tmp_path, "bottle")
    with pytest.raises(DataError, match="one category of it: name the folder above, and --categories bottle"):
        protocol_class("mvtec")(tmp_path / "bottle")
    with pytest.raises(DataError, match="looks like --dataset mvtec"):
        protocol_class("stc")(tmp_path)
    with pytest.raises(DataError, match="every 5: MVTec AD has no training videos"):
        protocol_class("mvtec")(tmp_path, every=5)


def test_categories_are_chosen_by_name(tmp_path):
    protocol = open_tree("mvtec", tmp_path)
    assert protocol.choose() == ["bottle", "screw"]
    assert protocol.choose(["screw"]) == ["screw"]
    with pytest.raises(DataError, match="has no category 'nut': it has bottle, screw"):
        protocol.choose(["bottle", "nut"])


def test_mvtec_without_masks_has_image_figures_alone(tmp_path):
    protocol = open_tree("mvtec", tmp_path)
    shutil.rmtree(tmp_path / "bottle/ground_truth")
    split = protocol.split("bottle")
    assert not split.masks
    assert not any(mask.any() for _, _, mask in judged_in(protocol, split))


@pytest.mark.parametrize(
    ("name", "category", "remove", "message"),
    [
        ("mvtec", "bottle", "bottle/train/good/*", "bottle/train/good has no good images"),
        ("mvtec", "bottle", "bottle/train/good/00[1-9].png", "has one good image, 000.png: a model needs at least two"),
        ("mvtec", "bottle", "bottle/test/good/*", "bottle/test has no good images"),
        ("mvtec", "bottle", "bottle/test/hole/*", r"mask .*000_mask\.png has no image|no defective images"),
        ("mvtec", "bottle", "bottle/test/hole/000.png", r"mask .*000_mask\.png has no image"),
        ("mvtec", "bottle", "bottle/ground_truth/hole/001_mask.png", r"001\.png has no mask"),
        ("btad", "02", "02/train/ok/*", "02/train/ok has no good images"),
        ("btad", "02", "02/test/ok/*", "02/test has no good test pictures"),
        ("btad", "02", "02/test/ko/0001.png", r"mask .*ground_truth/ko/0001\.png has no image"),
        ("btad", "03", "03/ground_truth/ko/0000.bmp", r"0000\.bmp has no mask: expected .*0000\.png or \.bmp"),
        ("visa", "pcb1", "pcb1/Data/Images/Normal/0002.JPG", r"0002\.JPG is missing, but .*1cls\.csv names it"),
        ("visa", "pcb1", "pcb1/Data/Masks/Anomaly/000.png", r"000\.png is missing, but"),
        ("kolektorsdd", "fold-1", "kos02/Part1_label.bmp", r"Part1\.jpg has no mask: expected .*Part1_label\.bmp"),
        ("kolektorsdd", "fold-1", "kos02/Part1.jpg", r"Part1_label\.bmp has no image Part1\.jpg"),
        ("stc", "02", "testing/frames/02_0014", "scene 02 has no test frames"),
        (
            "stc",
            "02",
            "testing/test_frame_mask/02_0014.npy",
            r"02_0014\.npy is missing: its frames have no ground truth",
        ),
        ("stc", "02", "testing/test_pixel_mask/02_0014.npy", r"test_pixel_mask/02_0014\.npy is missing"),
        ("stc", "02", "testing/frames/02_0014/003.jpg", "has 6 frames, .*02_0014 has 5: they must be equal"),
    ],
)
def test_what_is_missing_is_named(name, category, remove, message, tmp_path):
    protocol = open_tree(name, tmp_path)
    for path in tmp_path.glob(remove):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(DataError, match=message) as caught:
        protocol.split(category)
    assert "\n" not in str(caught.value)


def test_picture_that_cannot_be_read_is_named(tmp_path):
    protocol = open_tree("mvtec", tmp_path)
    split = protocol.split("bottle")
    split.tests[0].path.write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"test image .*good/000\.png cannot be used"):
        judged_in(protocol, split)
    (tmp_path / "bottle/train/good/002.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"training image .*002\.png cannot be used.*empty"):
        list(split.train.images(Geometry(SIZE), silent))


def test_mask_of_another_size_is_named_with_both_sizes(tmp_path):
    protocol = open_tree("btad", tmp_path)
    trees.save(tmp_path / "02/ground_truth/ko/0001.png", trees.mask()[:50])
    with pytest.raises(DataError, match=r"0001\.png is 96x50, its image 96x96"):
        judged_in(protocol, protocol.split("02"))


def test_pictures_of_unlike_sizes_are_mentioned_once(tmp_path):
    protocol = open_tree("mvtec", tmp_path)
    for n in (1, 2):
        trees.save(tmp_path / f"bottle/train/good/00{n}.png", plate(n)[:60])
    split = protocol.split("bottle")
    with capture_logs() as logs:
        images = split.train.images(Geometry(SIZE), silent)
        list(images)
        list(images.select([0, 1]))
    assert [(log["size"], log["first"]) for log in logs] == [("96x60", "96x96")]
    with capture_logs() as logs:  # KolektorSDD's differ by nature
        protocol = open_tree("kolektorsdd", tmp_path / "kolektor")
        list(protocol.split("fold-1").train.images(Geometry(SIZE), silent))
    assert logs == []


# --- geometry


def test_papers_cut_the_centre_of_mvtec_and_of_nothing_else(tmp_path):
    mvtec = open_tree("mvtec", tmp_path / "mvtec")
    assert (
        mvtec.geometry("padim", (256, 256)) == mvtec.geometry("spade", (256, 256)) == Geometry((256, 256), (224, 224))
    )
    assert mvtec.geometry("msflow", (768, 768)) == Geometry((768, 768))
    assert mvtec.geometry("padim", (256, 256), (448, 448)) == Geometry((512, 512), (448, 448))
    rd = open_tree("rd-mvtec", tmp_path / "rd")
    assert rd.geometry("padim", (256, 256)) == Geometry((256, 256), (224, 224), 10.0)
    assert rd.geometry("msflow", (768, 768)) == Geometry((878, 878), (768, 768), 10.0)
    stc = open_tree("stc", tmp_path / "stc")
    assert stc.geometry("padim", (512, 512)) == Geometry((256, 256))
    btad = open_tree("btad", tmp_path / "btad")
    assert btad.geometry("padim", (320, 256)) == Geometry((320, 256))


def test_resizing_averages_as_the_papers_do():
    stripes = np.zeros((512, 512, 3), np.uint8)
    stripes[:, ::2] = 255  # finer than the input can show: their mean is left, not some of them
    shrunk = Geometry((64, 64)).picture(stripes, "stripes")[8:-8, 8:-8]
    assert abs(shrunk.astype(int) - 127).max() <= 2


def test_centre_is_cut_from_picture_and_mask_alike():
    picture = np.zeros((64, 64, 3), np.uint8)
    picture[28:36, 28:36] = (255, 0, 0)  # blue, in OpenCV's order
    geometry = Geometry((64, 64), (16, 16))
    cut = geometry.picture(picture, "p")
    assert cut.shape == (16, 16, 3)
    assert cut[8, 8].tolist() == [0, 0, 255]
    mask = geometry.mask(picture[..., 0] > 0, "p")
    assert mask.sum() == 64
    assert np.array_equal(mask, cut[..., 2] > 127)
    assert str(Geometry((256, 256), (224, 224), 10)) == (
        "256x256 bicubic, turned by up to 10 degrees, random 224x224 cut out"
    )
    assert str(Geometry((256, 256), (224, 224))) == "256x256 bicubic, centre 224x224 cut out"


@given(st.text(max_size=20), st.sampled_from([(224, 224), (112, 96)]))
def test_turning_is_the_same_for_a_picture_and_its_mask_and_for_every_pass(name, size):
    disc = np.zeros((280, 280, 3), np.uint8)
    cv2.circle(disc, (120, 150), 40, (255, 255, 255), -1)
    geometry = Geometry(enlarged(size), size, 10.0)
    once = geometry.picture(disc, name)
    assert once.shape == (size[1], size[0], 3)
    assert np.array_equal(once, geometry.picture(disc, name))
    mask = geometry.mask(disc[..., 0] > 0, name)
    assert np.mean(mask != (once[..., 0] > 127)) < 0.005


def test_turning_differs_from_picture_to_picture_and_stays_in_bounds():
    geometry = Geometry((256, 256), (224, 224), 10.0)
    # A thin cross: how far its arms lean tells the angle, where it lies tells the cut.
    cross = np.zeros((256, 256, 3), np.uint8)
    cross[127:129], cross[:, 127:129] = 255, 255
    angles, places = [], []
    for n in range(60):
        ys, xs = np.nonzero(geometry.picture(cross, f"picture {n}")[..., 0] > 100)
        level = abs(ys - np.median(ys)) < abs(xs - np.median(xs))
        slope, at = np.polyfit(xs[level], ys[level], 1)
        angles.append(np.degrees(np.arctan(slope)))
        places.append(at + slope * 112)
    assert max(np.abs(angles)) <= 10.5
    assert min(angles) < -6
    assert max(angles) > 6
    assert np.std(places) > 5


# --- videos


def test_stc_frames_are_taken_scene_by_scene_and_each_so_manieth(tmp_path):
    root = trees.stc(tmp_path)
    scenes = protocol_class("stc")(root)
    assert scenes.categories == ["01", "02", "13"]
    said: list[tuple[str, int, int]] = []
    images = scenes.split("01").train.images(Geometry(SIZE), lambda *about: said.append(about[:3]))
    assert len(images) == 12
    assert said[-1] == ("reading videos", 12, 12)
    thinned = protocol_class("stc")(root, every=4)
    assert len(thinned.split("01").train) == 4
    few = thinned.split("01").train.images(Geometry(SIZE), silent)
    assert np.array_equal(np.stack(list(few)), np.stack(list(images.select([0, 4, 6, 10]))))
    assert len(thinned.split("01").tests) == 6  # all are judged


def test_stc_scene_without_ground_truth_says_so(tmp_path):
    split = open_tree("stc", tmp_path).split("13")
    assert split.unjudged == "the dataset has no ground truth"
    assert split.tests == ()


def test_stc_masks_are_those_of_their_frames(tmp_path):
    protocol = open_tree("stc", tmp_path)
    pixels = tmp_path / "testing/test_pixel_mask/01_0014.npy"
    masks = np.load(pixels)
    masks[4] = 0
    masks[4, :10, :10] = 1  # elsewhere in this frame alone
    np.save(pixels, masks)
    read = judged_in(protocol, protocol.split("01"), Geometry((96, 96)))
    assert [test.anomalous for test, _, _ in read] == [False] * 3 + [True] * 3
    assert [mask.sum() for _, _, mask in read] == [0, 0, 0, 441, 100, 441]


def test_stc_frames_are_in_the_order_of_their_numbers(tmp_path):
    protocol = open_tree("stc", tmp_path)
    clip = tmp_path / "testing/frames/01_0014"
    for number, name in enumerate(("100", "101", "999", "1000", "1001", "1002")):
        (clip / f"{number:03}.jpg").rename(clip / f"{name}.jpg")
    assert [test.path.stem for test in protocol.split("01").tests if test.anomalous] == ["1000", "1001", "1002"]


@pytest.mark.parametrize(
    ("kind", "array", "message"),
    [
        ("frame", np.zeros((6, 2)), r"is float64 \[6, 2\]: expected numbers with 1 axes"),
        ("pixel", np.zeros((6, 8, 8), np.uint8), r"masks .* are 8x8, frame 0 is 96x96"),
        ("pixel", np.array(["a"] * 6), "expected numbers with 3 axes"),
        ("frame", np.zeros(6, np.uint8), "has no defective test pictures"),
        ("frame", None, "is no NumPy array"),
    ],
)
def test_stc_arrays_that_do_not_fit_are_named(kind, array, message, tmp_path):
    protocol = open_tree("stc", tmp_path)
    path = tmp_path / f"testing/test_{kind}_mask/02_0014.npy"
    path.write_bytes(b"junk") if array is None else np.save(path, array)
    with pytest.raises(DataError, match=message):
        judged_in(protocol, protocol.split("02"))


def test_stc_array_of_python_objects_is_not_loaded(tmp_path):
    protocol = open_tree("stc", tmp_path)
    np.save(tmp_path / "testing/test_frame_mask/02_0014.npy", np.array([{}] * 6, object), allow_pickle=True)
    with pytest.raises(DataError, match="is no NumPy array"):
        protocol.split("02")


def test_stc_video_that_is_none_is_named(tmp_path):
    protocol = open_tree("stc", tmp_path)
    (tmp_path / "training/videos/01_002.avi").write_bytes(b"no video")
    with pytest.raises(DataError, match=r"training video .*01_002\.avi: not a video"):
        protocol.split("01").train.images(Geometry(SIZE), silent)


# --- splits of one's own


def test_kolektor_folds_judge_every_part_once_and_learn_from_the_other_commutators(tmp_path):
    protocol = open_tree("kolektorsdd", tmp_path)
    splits = [protocol.split(fold) for fold in protocol.categories]
    judged = [test.path for split in splits for test in split.tests]
    assert len(judged) == len(set(judged)) == 18
    for split in splits:
        commutators = {test.path.parent for test in split.tests}
        assert not commutators & {path.parent for path in split.train.paths}
        assert len(split.train.paths) == 8  # the good ones of four others
    again = protocol_class("kolektorsdd")(tmp_path)
    assert [test.path for test in again.split("fold-2").tests] == [test.path for test in splits[1].tests]


def test_visa_table_is_checked(tmp_path):
    protocol = open_tree("visa", tmp_path)
    table = tmp_path / "split_csv/1cls.csv"
    text = table.read_text(encoding="utf-8")
    table.write_text(
        text.replace("Normal/0001.JPG,", "Normal/0001.JPG,pcb1/Data/Masks/Anomaly/000.png"), encoding="utf-8"
    )
    with pytest.raises(DataError, match=r"1cls\.csv calls candle/.*0001\.JPG normal and its mask 'pcb1/"):
        protocol.split("candle")
    table.write_text(text.replace("label", "class", 1), encoding="utf-8")
    with pytest.raises(DataError, match="has no column 'label': it needs object, split, label, image, mask"):
        protocol.split("candle")


# --- published figures


def test_published_means_are_those_of_their_categories():
    for entry in PUBLISHED:
        assert entry.dataset in PROTOCOLS
        for metric, printed in entry.means.items():
            assert 0 < printed <= 100
            figures = [row[metric] for row in entry.categories.values() if metric in row]
            # DifferNet's authors print a mean that is not that of the categories quoted.
            tolerance = 0.25 if entry.detector == "differnet" else 0.1
            assert not figures or mean(figures) == pytest.approx(printed, abs=tolerance), (entry.method, metric)
            assert len(figures) in (0, 15)


def test_published_figures_are_those_of_the_settings():
    padim = PadimSettings(backbone="wide_resnet50_2").model_dump(mode="json")
    assert published("padim", "mvtec", padim).method == "PaDiM-WR50-Rd550"
    small = PadimSettings().model_dump(mode="json")
    assert published("padim", "mvtec", small).categories["carpet"] == {"pixel_auroc": 98.9, "aupro": 96.0}
    assert published("padim", "mvtec", {**small, "dimensions": 99}) is None
    assert published("padim", "rd-mvtec", small) is None
    flow = {"backbone": "resnet18", "image_size": [448, 448], "subfeatures": 4}
    assert published("msflow", "mvtec", flow).means == {"image_auroc": 97.9}
    assert published("msflow", "mvtec", {**flow, "image_size": [256, 256]}).means == {"image_auroc": 99.7}
    assert published("nobody", "mvtec", {}) is None
