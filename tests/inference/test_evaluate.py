import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from inference.calibration import Calibration
from inference.engine import Engine, Judgement
from inference.errors import EngineError
from inference.false_alarms import parse_false_alarms
from inference.training import evaluate as evaluating
from inference.training.evaluate import SPECIMENS, Findings, evaluate
from inference.training.score import files, score
from ingest.pictures import read_picture
from ingest.preprocess import prepare
from storage.models import Bundle
from storage.records import Status

TENTH = parse_false_alarms("10%")


def plate(path: Path, seed: int, *, hole: tuple[int, int] | None = None) -> None:
    picture = np.full((96, 96, 3), 120, np.uint8)
    cv2.circle(picture, (48, 48), 30, (200, 200, 200), -1)
    if hole is not None:
        cv2.rectangle(picture, hole, (hole[0] + 16, hole[1] + 16), (0, 0, 255), -1)
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 6, picture.shape, np.uint8)
    cv2.imwrite(str(path), cv2.add(picture, noise))


@pytest.fixture(scope="module")
def tests(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("plates")
    for i in range(6):
        plate(root / f"test/good/{i}.png", 500 + i)
        for kind, hole in (("hole", (40, 40)), ("rim", (60, 20))):
            plate(root / f"test/{kind}/{i}.png", 600 + i, hole=(hole[0] + i, hole[1]))
            mask = np.zeros((96, 96), np.uint8)
            mask[hole[1] : hole[1] + 16, hole[0] + i : hole[0] + i + 16] = 255
            (root / f"ground_truth/{kind}").mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(root / f"ground_truth/{kind}/{i}_mask.png"), mask)
    return root


@pytest.fixture(scope="module")
def findings(plate_model: Bundle, tests: Path) -> Findings:
    return evaluate(plate_model, tests, asked=TENTH, device="cpu", batch=4)


def test_plain_defects_are_found(findings: Findings) -> None:
    summary = findings.summary
    assert summary.image_auroc == 1.0
    assert summary.pixel_auroc is not None
    assert summary.pixel_auroc > 0.9
    assert summary.aupro is not None
    assert 0.5 < summary.aupro <= 1
    assert (summary.n_good, summary.n_defect) == (6, 12)
    assert set(summary.kinds) == {"hole", "rim"}
    assert summary.kinds["rim"].n == 6
    assert summary.escape_rate == 0.0
    assert summary.ms_per_image > 0


def test_figures_agree_with_judging_one_by_one(findings: Findings, plate_model: Bundle, tests: Path) -> None:
    engine = Engine(plate_model, device="cpu")
    assert engine.calibration is not None
    limit = engine.calibration.threshold(0.1).threshold
    scores, labels, pixels, truth = [], [], [], []
    for kind in ("good", "hole", "rim"):
        for path in sorted((tests / "test" / kind).iterdir()):
            judged = engine.judge(prepare(read_picture(path), engine.preprocessing)[None])
            scores.append(float(judged.scores[0]))
            labels.append(kind != "good")
            mask = np.zeros((96, 96), np.uint8)
            if kind != "good":
                mask = read_picture(tests / "ground_truth" / kind / f"{path.stem}_mask.png")[..., 0]
            pixels.append(judged.maps[0])
            truth.append(cv2.resize(mask, (64, 64), interpolation=cv2.INTER_NEAREST) > 0)
    summary = findings.summary
    assert summary.threshold == limit
    assert summary.false_alarm_rate == pytest.approx(np.mean([s > limit for s in scores[:6]]))
    assert summary.image_auroc == pytest.approx(roc_auc_score(labels, scores))
    expected = roc_auc_score(np.stack(truth).ravel(), np.stack(pixels).ravel())
    assert summary.pixel_auroc == pytest.approx(expected, abs=1e-3)


def test_json_has_the_promised_keys(findings: Findings) -> None:
    keys = {"image_auroc", "pixel_auroc", "aupro", "f1_max", "false_alarm_rate", "n_good", "n_defect", "ms_per_image"}
    written = json.loads(findings.summary.model_dump_json())
    assert keys <= set(written)
    assert written["asked_rate"] == 0.1
    assert written["kinds"]["hole"]["image_auroc"] == 1.0


def test_specimens_are_the_ends_of_the_ranking(findings: Findings) -> None:
    defects = np.sort(np.concatenate([findings.scores["hole"], findings.scores["rim"]]))
    assert [s.score for s in findings.best_defects] == pytest.approx(defects[::-1][:SPECIMENS])
    assert [s.score for s in findings.worst_defects] == pytest.approx(defects[:SPECIMENS])
    assert [s.score for s in findings.worst_good] == pytest.approx(np.sort(findings.scores["good"])[::-1][:SPECIMENS])
    assert all(s.mask.any() for s in findings.best_defects)


def test_set_without_masks_has_no_pixel_figures(plate_model: Bundle, tests: Path, tmp_path: Path) -> None:
    (tmp_path / "test").symlink_to(tests / "test")
    summary = evaluate(plate_model, tmp_path, device="cpu").summary
    assert summary.pixel_auroc is None
    assert summary.aupro is None
    assert summary.image_auroc == 1.0


class Coarse:
    """An engine whose maps are coarser than its input."""

    def __init__(self, bundle: Bundle, *, device: str) -> None:
        self.preprocessing = Engine(bundle, device=device).preprocessing
        self.value = 0.0

    def judge(self, batch: np.ndarray) -> Judgement:
        self.value += 1
        maps = np.linspace(0, 1, 64, dtype=np.float32).reshape(1, 8, 8).repeat(len(batch), 0)
        return Judgement(np.arange(len(batch), dtype=np.float32) + np.float32(self.value), maps)


def test_coarse_maps_are_brought_to_the_input(
    plate_model: Bundle, tests: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluating, "Engine", Coarse)
    found = evaluate(plate_model, tests, device="cpu")
    assert found.worst_good[0].anomaly_map.shape == (64, 64)


def test_score_that_is_not_finite_is_an_error(
    plate_model: Bundle, tests: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge = Coarse.judge
    monkeypatch.setattr(evaluating, "Engine", Coarse)
    monkeypatch.setattr(
        Coarse, "judge", lambda self, batch: Judgement(judge(self, batch).scores * np.nan, judge(self, batch).maps)
    )
    with pytest.raises(EngineError, match="not finite"):
        evaluate(plate_model, tests, device="cpu")


def test_files_are_scored_in_order_whatever_is_wrong_with_a_neighbour(plate_model: Bundle, tests: Path) -> None:
    engine = Engine(plate_model, device="cpu")
    broken = tests / "broken.png"
    broken.write_bytes(b"no picture")
    paths = [*files([tests / "test/good"]), broken, tests / "gone.png", *files([tests / "test/hole"])]
    scored = list(score(engine, paths, asked=TENTH, batch=5))
    assert [s.path for s in scored] == [str(p) for p in paths]
    unknown = [s for s in scored if s.status is Status.UNKNOWN]
    assert [s.path for s in unknown] == [str(broken), str(tests / "gone.png")]
    assert all(s.score is None and s.reason for s in unknown)
    calibration = Calibration.model_validate(plate_model.calibration())
    for s in scored:
        if s.score is not None:
            assert s.p_value == calibration.p_value(s.score)
            assert (s.status is Status.REJECT) == (s.score > calibration.threshold(0.1).threshold)
    assert all(s.status is Status.REJECT for s in scored[-6:])
