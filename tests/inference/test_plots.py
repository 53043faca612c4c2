from pathlib import Path

import numpy as np
import pytest

from inference.calibration import Calibration
from inference.threshold import Threshold
from inference.training.evaluate import Evaluation, Findings, Kind, Specimen
from inference.training.plots import draw
from ingest.pictures import read_picture
from storage.errors import StorageFull


def findings(*, masks: bool, scores: dict[str, np.ndarray] | None = None, limit: Threshold | None = None) -> Findings:
    rng = np.random.default_rng(0)
    scores = scores or {"good": rng.normal(5, 1, 50), "crack": rng.normal(8, 2, 20), "hole": rng.normal(11, 2, 9)}
    mask = np.zeros((24, 32), bool)
    mask[5:12, 8:20] = masks
    specimens = [
        Specimen(
            f"crack/a_rather_long_name_of_a_file_{i}.png",
            float(i),
            rng.integers(0, 255, (24, 32, 3), np.uint8),
            rng.uniform(size=(24, 32)).astype(np.float32),
            mask,
        )
        for i in range(3)
    ]
    curve = (np.linspace(0, 1, 50_000), np.linspace(0, 1, 50_000) ** 0.2)
    summary = Evaluation(
        model="plate@1",
        image_auroc=0.9,
        pixel_auroc=0.8 if masks else None,
        aupro=0.7 if masks else None,
        f1_max=0.8,
        average_precision=0.8,
        false_alarm_rate=None if limit is None else 0.04,
        escape_rate=None if limit is None else 0.2,
        asked_rate=None if limit is None else limit.asked,
        threshold=None if limit is None else limit.threshold,
        n_good=50,
        n_defect=29,
        ms_per_image=10.0,
        batch=8,
        kinds={kind: Kind(n=s.size, image_auroc=0.9, escape_rate=None) for kind, s in scores.items() if kind != "good"},
    )
    curves = {"roc": curve, "pro": curve} if masks else {"roc": None, "pro": None}
    return Findings(
        summary, limit, scores, **curves, worst_good=specimens[:1], best_defects=specimens, worst_defects=[]
    )


@pytest.mark.parametrize("calibrated", [False, True])
@pytest.mark.parametrize("masks", [False, True])
def test_every_plot_is_a_picture_with_something_on_it(tmp_path: Path, calibrated: bool, masks: bool) -> None:
    limit = Calibration.of(np.linspace(3, 8, 30), "split").threshold(0.05) if calibrated else None
    written = draw(findings(masks=masks, limit=limit), tmp_path / "plots")
    expected = {"scores.png", "roc.png", "heat_maps.png"} | ({"pro.png"} if masks else set())
    assert {path.name for path in written} == expected
    for path in written:
        picture = read_picture(path)
        assert min(picture.shape[:2]) > 200
        assert picture.std() > 5


@pytest.mark.parametrize("values", [[1.0, 1.0], [0.1, 1000.0]])
def test_scores_on_any_scale_can_be_drawn(tmp_path: Path, values: list[float]) -> None:
    scores = {"good": np.full(5, values[0]), "crack": np.full(5, values[1])}
    assert draw(findings(masks=False, scores=scores), tmp_path)


def test_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageFull, match="plots cannot be written to"):
        draw(findings(masks=False), tmp_path / "file")
