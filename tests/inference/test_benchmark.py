import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, roc_auc_score

from inference.detectors import DETECTORS
from inference.errors import DataError, EngineError, WeightsError
from inference.training.benchmark import Benchmark, Entrant, Step
from inference.training.benchmark_plots import draw
from inference.training.benchmark_results import Makings, Results
from inference.training.benchmark_tables import Cell, Row, Table, tables
from inference.training.images import to_batch
from inference.training.protocols import PROTOCOLS, protocol_class
from inference.training.protocols.pictures import read_tests
from inference.training.recipe import Recipe
from inference.training.report import Report, silent
from inference.training.tally import Tally, joined
from ingest.pictures import read_picture
from storage.errors import StorageError, StorageFull
from tests.inference import trees
from tests.inference.flat import Flat

PADIM = Entrant("padim", {"dimensions": 8}, "random", (48, 48))
TREES: dict[str, Callable[[Path], Path]] = {
    "mvtec": lambda root: trees.mvtec(root, "bottle", "screw"),
    "rd-mvtec": lambda root: trees.mvtec(root, "bottle", "screw"),
    "btad": trees.btad,
    "visa": trees.visa,
    "kolektorsdd": trees.kolektorsdd,
    "stc": trees.stc,
}


@contextmanager
def quietly() -> Iterator[Report]:
    yield silent


@pytest.fixture(scope="module")
def bottles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trees.mvtec(tmp_path_factory.mktemp("mvtec"), "bottle", "screw")


@pytest.fixture
def flat(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(DETECTORS, "flat", "tests.inference.flat:Flat")
    monkeypatch.setattr(Flat, "fitted", [])


def planned(root: Path, file: Path, *entrants: Entrant, dataset: str = "mvtec", every: int = 1, **options) -> Benchmark:
    protocol = protocol_class(dataset)(root, every=every)
    return Benchmark(protocol, entrants or (PADIM,), Results(file), device="cpu", **options)


def carry_out(benchmark: Benchmark) -> list[Step]:
    return list(benchmark.carry_out(quietly))


def test_figures_are_those_of_judging_by_hand(bottles, tmp_path):
    benchmark = planned(bottles, tmp_path / "r.json", categories=["screw"])
    (step,) = carry_out(benchmark)
    arm, split = benchmark.arms[0], benchmark.splits["screw"]
    detector = arm.made.fit(arm.made.build(), split.train.images(arm.geometry, silent), "", silent)
    read = list(read_tests(bottles, split.tests, arm.geometry, split.sizes))
    with torch.inference_mode():
        found = detector(to_batch(np.stack([picture for _, picture, _ in read])))
    truth, masks = [test.anomalous for test, _, _ in read], np.stack([mask for _, _, mask in read])
    figures = step.result.figures
    assert figures.image_auroc == pytest.approx(roc_auc_score(truth, found.scores), abs=1e-6)
    assert figures.pixel_auroc == pytest.approx(roc_auc_score(masks.ravel(), found.maps.ravel()), abs=1e-3)
    precision = average_precision_score(masks.ravel(), found.maps.ravel())
    assert figures.pixel_average_precision == pytest.approx(precision, abs=2e-3)
    assert (step.result.n_train, step.result.n_good, step.result.n_anomalous, step.result.n_regions) == (6, 3, 3, 3)
    assert step.result.makings.geometry == "55x55 bicubic, centre 48x48 cut out"
    assert step.result.makings.settings["image_size"] == [48, 48]


@pytest.mark.parametrize("dataset", PROTOCOLS)
def test_every_protocol_is_carried_out(dataset, tmp_path):
    benchmark = planned(TREES[dataset](tmp_path / "data"), tmp_path / "r.json", dataset=dataset)
    steps = carry_out(benchmark)
    (table,) = tables(benchmark, steps)
    judged = [step for step in steps if step.result]
    assert [row.name for row in table.rows if not row.summary] == [step.category for step in judged]
    means = next(row for row in table.rows if row.summary)
    for metric in ("image_auroc", "pixel_auroc", "aupro"):
        values = [getattr(step.result.figures, metric) for step in judged]
        assert means.cells[metric].ours == pytest.approx(100 * np.mean(values))
        assert 0 <= min(values) <= max(values) <= 1
    # A red patch of a quarter of the plate is found by any network, even a random one.
    assert means.cells["image_auroc"].ours > (60 if dataset == "rd-mvtec" else 90)
    json.dumps(table.as_json())


def test_scenes_are_stated_by_mean_and_together_and_scene_13_is_not_counted(tmp_path):
    benchmark = planned(trees.stc(tmp_path / "stc"), tmp_path / "r.json", dataset="stc", every=2)
    steps = carry_out(benchmark)
    assert [step.skipped for step in steps] == ["", "", "the dataset has no ground truth"]
    (table,) = tables(benchmark, steps)
    assert [row.name for row in table.rows] == ["01", "02", "mean of 2 scenes", "all scenes together"]
    assert "one training frame in 2" in table.title
    assert table.names["image_auroc"] == "frame AUROC"
    assert "13: not judged, the dataset has no ground truth; not counted in the mean." in table.notes
    # Together: as if all maps had been judged as one set.
    whole = Tally(pixels=True)
    arm = benchmark.arms[0]
    for scene in ("01", "02"):
        split = benchmark.splits[scene]
        detector = arm.made.fit(arm.made.build(), split.train.images(arm.geometry, silent), "", silent)
        for test, picture, mask in read_tests(benchmark.protocol.root, split.tests, arm.geometry, split.sizes):
            with torch.inference_mode():
                found = detector(to_batch(picture[None]))
            map_ = found.maps[0].numpy()
            whole.add(float(found.scores[0]), anomalous=test.anomalous, anomaly_map=map_, mask=mask)
    for metric, value in whole.figures().model_dump().items():
        assert table.rows[-1].cells[metric].ours == pytest.approx(100 * value, abs=0.05), metric


# --- resuming


def test_second_run_measures_nothing(bottles, tmp_path, monkeypatch):
    first = carry_out(planned(bottles, tmp_path / "r.json"))
    monkeypatch.setattr(Recipe, "fit", None)
    again = carry_out(planned(bottles, tmp_path / "r.json"))
    assert [step.kept for step in again] == [True, True]
    assert [step.result for step in again] == [step.result for step in first]


@pytest.mark.usefixtures("flat")
def test_what_was_done_before_a_kill_is_kept(bottles, tmp_path):
    work = planned(bottles, tmp_path / "r.json", Entrant("flat", size=(32, 32))).carry_out(quietly)
    assert next(work).category == "bottle"
    work.close()
    Flat.fitted.clear()
    steps = carry_out(planned(bottles, tmp_path / "r.json", Entrant("flat", size=(32, 32))))
    assert [(step.category, step.kept) for step in steps] == [("bottle", True), ("screw", False)]
    assert Flat.fitted == [6]


def test_a_training_is_not_repeated_when_judging_was_broken_off(bottles, tmp_path, monkeypatch):
    trained = Entrant("msflow", {"hidden": 8, "epochs": 2, "batch": 4}, "random", (48, 48))
    options = {"categories": ["bottle"]}
    monkeypatch.setattr(Benchmark, "_judge", None)
    with pytest.raises(TypeError):
        carry_out(planned(bottles, tmp_path / "r.json", trained, **options))
    (checkpoint,) = (tmp_path / "r.json.parts").glob("*.checkpoint")
    monkeypatch.undo()
    monkeypatch.setattr("inference.detectors.msflow.Msflow.loss", None)  # of no use any more
    assert carry_out(planned(bottles, tmp_path / "r.json", trained, **options))[0].result
    assert not checkpoint.exists()


@pytest.mark.usefixtures("flat")
def test_frames_are_judged_again_when_their_counts_are_gone(tmp_path):
    root = trees.stc(tmp_path / "stc", scenes=("01", "13"))
    carry_out(planned(root, tmp_path / "r.json", Entrant("flat"), dataset="stc"))
    (counts,) = (tmp_path / "r.json.parts").glob("*.npz")
    assert len(joined([counts])) == 6
    assert carry_out(planned(root, tmp_path / "r.json", Entrant("flat"), dataset="stc"))[0].kept
    counts.unlink()
    assert not carry_out(planned(root, tmp_path / "r.json", Entrant("flat"), dataset="stc"))[0].kept


@pytest.mark.parametrize("kept", [0, 20, 0.5, -30])
def test_counts_that_a_power_failure_tore_are_named(kept, tmp_path):
    tally = Tally(pixels=True)
    tally.add(1.0, anomalous=True, anomaly_map=np.eye(64, dtype=np.float32), mask=np.eye(64, dtype=bool))
    file = tmp_path / "counts.npz"
    np.savez_compressed(file, **tally.counts())
    whole = file.read_bytes()
    file.write_bytes(whole[: int(kept * len(whole)) if isinstance(kept, float) else kept])
    with pytest.raises(DataError, match=r"counts\.npz is damaged: remove it, and what it counts is judged again"):
        joined([file])


def test_another_making_is_another_result(tmp_path, monkeypatch):
    root = trees.stc(tmp_path / "stc", scenes=("01", "13"))

    def key(*entrants: Entrant, **options) -> str:
        benchmark = planned(root, tmp_path / "r.json", *entrants, dataset="stc", **options)
        return benchmark.makings(benchmark.arms[0], "01").key

    usual = key()
    others = [
        key(seeds=[1]),
        key(every=2),
        key(Entrant("padim", {"dimensions": 9}, "random", (48, 48))),
        key(Entrant("padim", {"dimensions": 8}, "random", (64, 48))),
    ]
    monkeypatch.setattr("inference.training.benchmark.version", lambda _: "9.9")
    others.append(key())
    monkeypatch.undo()
    monkeypatch.setattr(protocol_class("stc"), "version", 2)
    others.append(key())
    monkeypatch.undo()
    trees.save(root / "testing/frames/01_0014/000.jpg", np.zeros((96, 96, 3), np.uint8))
    others.append(key())
    assert len({usual, *others}) == 8
    assert Makings.model_fields.keys() >= {"weights", "device", "geometry"}


@pytest.mark.usefixtures("flat")
def test_two_runs_may_write_to_one_file(bottles, tmp_path):
    one = planned(bottles, tmp_path / "r.json", Entrant("flat"), categories=["bottle"])
    other = planned(
        bottles, tmp_path / "r.json", Entrant("flat"), categories=["screw"]
    )  # has read the file before one wrote
    carry_out(one)
    carry_out(other)
    other.results.conclude([{"title": "kept"}])
    found = json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))
    assert {result["makings"]["category"] for result in found["results"].values()} == {"bottle", "screw"}
    assert found["tables"] == [{"title": "kept"}]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("no json", "cannot be read as results"),
        ("[]", "holds no results of benchmarks"),
        ('{"schema": 1, "results": {"a": {"figures": 1}}}', "holds results of another version"),
        ('{"schema": 1}', "holds results of another version"),
    ],
)
def test_file_of_something_else_is_left_alone(text, message, tmp_path):
    (tmp_path / "r.json").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=f"{message}.*name another --json FILE"):
        Results(tmp_path / "r.json")
    assert (tmp_path / "r.json").read_text(encoding="utf-8") == text


@pytest.mark.usefixtures("flat")
def test_folder_that_cannot_be_written_is_named(bottles, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises((StorageError, DataError), match="file"):
        carry_out(planned(bottles, tmp_path / "file" / "r.json", Entrant("flat")))


# --- what detectors do


@pytest.mark.usefixtures("flat")
def test_fitting_sees_training_pictures_only_and_each_once(bottles, tmp_path):
    steps = carry_out(planned(bottles, tmp_path / "r.json", Entrant("flat", size=(32, 32)), seeds=[0, 1]))
    assert Flat.fitted == [6] * 4
    assert [step.arm.made.settings.seed for step in steps] == [0, 0, 1, 1]


@pytest.mark.usefixtures("flat")
def test_detector_without_maps_has_image_figures_alone(bottles, tmp_path):
    benchmark = planned(bottles, tmp_path / "r.json", Entrant("flat", size=(32, 32)))
    (table,) = tables(benchmark, carry_out(benchmark))
    assert set(table.names) == {"image_auroc", "image_average_precision", "image_f1_max"}
    assert table.rows[0].cells["image_auroc"].ours == 100


@pytest.mark.usefixtures("flat")
def test_score_that_is_not_finite_is_an_error(bottles, tmp_path):
    with pytest.raises(EngineError, match=r"flat gives .*000\.png a score or map that is not finite"):
        carry_out(planned(bottles, tmp_path / "r.json", Entrant("flat", {"broken": True}, size=(32, 32))))
    assert not (tmp_path / "r.json").exists()


@pytest.mark.usefixtures("flat")
def test_requests_are_checked_before_any_work(bottles, tmp_path):
    file = tmp_path / "r.json"
    with pytest.raises(ValueError, match="flat has no setting 'colour'"):
        planned(bottles, file, PADIM, Entrant("flat", {"colour": 1}))
    with pytest.raises(WeightsError, match="no weights file"):
        planned(bottles, file, Entrant("padim", weights=str(tmp_path / "none.pth")))
    with pytest.raises(EngineError, match="no device 'abacus'"):
        Benchmark(protocol_class("mvtec")(bottles), [PADIM], Results(file), device="abacus")
    with pytest.raises(DataError, match="has no category 'nut'"):
        planned(bottles, file, categories=["nut"])
    assert Flat.fitted == []


def test_trained_detector_leaves_nothing_behind_but_its_result(bottles, tmp_path):
    entrant = Entrant("msflow", {"epochs": 1, "hidden": 4, "kernels": [1]}, "random", (64, 64))
    (step,) = carry_out(planned(bottles, tmp_path / "r.json", entrant, categories=["bottle"]))
    assert step.result.figures.image_auroc is not None
    assert [path.name for path in (tmp_path / "r.json.parts").iterdir()] == ["lock"]


# --- tables


def table_of(benchmark: Benchmark, figures: dict[str, dict[str, float]]) -> Table:
    """As if these figures had been measured."""
    steps = []
    for step in carry_out(benchmark):
        changed = step.result.figures.model_copy(update=figures[step.category])
        steps.append(Step(step.arm, step.category, step.result.model_copy(update={"figures": changed})))
    (table,) = tables(benchmark, steps)
    return table


def test_paper_stands_beside_ours_where_it_printed_the_same(bottles, tmp_path, monkeypatch):
    benchmark = planned(bottles, tmp_path / "r.json", Entrant("padim", {"dimensions": 100}, "random", (64, 64)))
    figures = {"bottle": {"pixel_auroc": 0.98, "aupro": 0.9}, "screw": {"pixel_auroc": 0.96, "aupro": 0.92}}
    table = table_of(benchmark, figures)
    bottle, _, means = table.rows
    assert bottle.cells["pixel_auroc"] == Cell(pytest.approx(98.0), None, 98.1)
    assert bottle.cells["pixel_auroc"].difference == pytest.approx(-0.1)
    assert bottle.cells["image_auroc"].paper is None  # the paper prints none for this backbone
    assert means.cells["aupro"].ours == pytest.approx(91.0)
    assert means.cells["aupro"].paper == pytest.approx((93.9 + 91.3) / 2)
    assert "The paper's mean here is over the same 2 of its 15." in table.notes
    text = table.markdown()
    assert "| pixel AUROC | paper | diff | AUPRO | paper | diff |" in text
    assert "| bottle |" in text
    assert "| 98.0 | 98.1 | -0.1 | 90.0 | 93.9 | -3.9 |" in text
    assert "- Paper: PaDiM-R18-Rd100; Defard et al." in text
    monkeypatch.setattr(type(benchmark.protocol), "complete", 2)  # all there is, but not the paper's
    assert tables(benchmark, carry_out(benchmark))[0].rows[-1].cells["aupro"].paper == pytest.approx(92.6)


def test_paper_without_categories_is_compared_by_a_whole_mean_only(tmp_path):
    benchmark = planned(trees.btad(tmp_path / "btad"), tmp_path / "r.json", dataset="btad")
    steps = carry_out(benchmark)
    object.__setattr__(benchmark.arms[0].made, "detector", "msflow")  # for what is published of it
    (table,) = tables(benchmark, steps)
    assert table.rows[-1].cells["image_auroc"].paper == 96.0
    (table,) = tables(benchmark, steps[:2])
    assert table.rows[-1].cells["image_auroc"].paper is None
    assert "The paper's mean is over all 3 products: image AUROC 96.0." in table.notes
    assert table.paper == ""


def test_mean_is_over_all_categories_or_there_is_none(tmp_path):
    root = trees.mvtec(tmp_path / "d", "bottle", "screw")
    shutil.rmtree(root / "screw/ground_truth")
    benchmark = planned(root, tmp_path / "r.json")
    (table,) = tables(benchmark, carry_out(benchmark))
    bottle, _, means = table.rows
    assert means.name == "mean of 2 categories"
    assert "image_auroc" in means.cells
    assert "pixel_auroc" in bottle.cells
    assert "pixel_auroc" not in means.cells


@pytest.mark.usefixtures("flat")
def test_seeds_give_a_mean_and_a_spread(bottles, tmp_path):
    benchmark = planned(
        bottles, tmp_path / "r.json", PADIM, Entrant("flat", size=(32, 32)), categories=["bottle"], seeds=[0, 1]
    )
    first, second = tables(benchmark, carry_out(benchmark))
    assert (first.detector, second.detector) == ("padim", "flat")
    assert "Mean and standard deviation over 2 seeds." in first.notes
    cell = first.rows[0].cells["pixel_auroc"]
    assert cell.spread is not None
    assert 0 < cell.spread < 20
    assert f"± {cell.spread:.1f}" in first.markdown()
    assert second.rows[0].cells["image_auroc"].spread == 0


# --- plots


def drawn(*, rows: int, paper: float | None, spread: float | None = None) -> Table:
    cells = {metric: Cell(95.0, spread, paper) for metric in ("image_auroc", "pixel_auroc", "aupro")}
    found = [Row(f"category {n}", cells) for n in range(rows)] + [Row("mean", cells, summary=True)] * (rows > 1)
    names = {"image_auroc": "image AUROC", "pixel_auroc": "pixel AUROC", "aupro": "AUPRO", "pixel_f1_max": "pixel F1"}
    return Table("padim", "padim on MVTec AD", "category", names, found, (), "PaDiM; somewhere" if paper else "")


@pytest.mark.parametrize(
    "table", [drawn(rows=1, paper=None), drawn(rows=3, paper=100.0, spread=9.0), drawn(rows=15, paper=95.0)]
)
def test_every_plot_is_a_picture_with_something_on_it(table, tmp_path):
    (path,) = draw([table], tmp_path / "plots", "mvtec")
    assert path.name == "mvtec-padim.png"
    picture = read_picture(path)
    assert picture.shape[1] > 800
    assert picture.std() > 5


def test_plots_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageFull, match="plots cannot be written to"):
        draw([drawn(rows=1, paper=None)], tmp_path / "file", "mvtec")
