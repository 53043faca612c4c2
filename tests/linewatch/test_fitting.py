import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import structlog
from structlog.testing import capture_logs

from linewatch.cli import main
from linewatch.commands import progress

FIT = ["fit", "--weights", "random", "--image-size", "64", "--device", "cpu", "--set", "dimensions=10"]


@pytest.fixture(autouse=True)
def logs_as_before() -> Iterator[None]:
    """Each command points the logs of this process at its own stderr."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    yield
    root.handlers[:] = before
    root.setLevel(level)
    structlog.reset_defaults()


def plates(folder: Path, count: int, *, first: int, hole: bool = False) -> Path:
    folder.mkdir(parents=True)
    for i in range(count):
        picture = np.full((80, 80, 3), 120, np.uint8)
        cv2.circle(picture, (40, 40), 25, (200, 200, 200), -1)
        if hole:
            cv2.rectangle(picture, (30, 30), (50, 50), (0, 0, 255), -1)
        noise = np.random.default_rng(first + i).integers(0, 6, picture.shape, np.uint8)
        cv2.imwrite(str(folder / f"{i:02}.png"), cv2.add(picture, noise))
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("plates")
    plates(root / "train/good", 12, first=0)
    plates(root / "calibration/good", 20, first=50)
    plates(root / "test/good", 4, first=100)
    plates(root / "test/hole", 4, first=150, hole=True)
    return root


@pytest.fixture(scope="module")
def model(data: Path) -> str:
    out = data / "models/plate"
    assert main([*FIT, "--data", str(data), "--out", str(out)]) == 0
    return str(out)


def test_fit_says_what_was_made_what_it_promises_and_what_to_do_next(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "var/models/plate")
    assert main([*FIT, "--data", str(data), "--out", out, "--false-alarms", "20%"]) == 0
    assert (tmp_path / "var").stat().st_mode & 0o777 == 0o700
    said = capsys.readouterr().out
    assert "plate@1: padim fitted on 12 good images" in said
    assert "20%" in said
    assert "confidence from 20 good images" in said
    assert "linewatch evaluate" in said
    assert main([*FIT, "--data", str(data / "train/good"), "--out", out]) == 0
    said = capsys.readouterr().out
    assert "the highest good score: more cannot be said" in said
    assert "47 more good images would do" in said
    assert "cross-calibrated" in said
    assert f"linewatch models promote {out}@2" in said


def test_calibrate_prints_the_threshold_as_json(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    more = plates(tmp_path / "more", 30, first=300)
    capsys.readouterr()
    assert main(["calibrate", model, "--data", str(more), "--false-alarms", "10%", "--json", "--device", "cpu"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["n_good"] == 30
    assert said["asked"] == 0.1
    assert not said["extrapolated"]


def test_calibrating_on_video_promises_per_time_and_draws_it(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, plots = str(tmp_path / "plate"), tmp_path / "plots"
    assert main([*FIT, "--data", str(data), "--out", out]) == 0
    film = "synthetic:belt?rate=max&fps=4&frames=160&size=80x80&defect_every=0"
    command = ["calibrate", out, "--data", film, "--every", "2", "--device", "cpu", "--smooth", "3"]
    capsys.readouterr()
    assert main([*command, "--false-alarms", "1 per min", "--confidence", "0.9", "--json", "--plots", str(plots)]) == 0
    printed = capsys.readouterr()
    said = json.loads(printed.out)
    assert (said["unit"], said["text"], said["confidence"], said["smoothing"]) == ("block", "1 per min", 0.9, 3)
    assert said["frame_s"] == 0.5
    assert said["unit_s"] == said["decorrelation"] * 0.5
    assert said["asked"] == pytest.approx(said["unit_s"] / 60)
    assert {path.name for path in plots.iterdir()} == {"good_scores.png", "tail.png", "promise.png", "time.png"}
    assert f"wrote {plots / 'time.png'}" in printed.err
    assert main([*command, "--false-alarms", "1 per 8h", "--fps", "2"]) == 0
    printed = capsys.readouterr().out
    assert "1 per 8h, which is one per 8 h" in printed
    assert "more of good video would do" in printed
    assert "averaged over 3 frames" in printed


def test_a_camera_without_a_rate_cannot_be_asked_per_time(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    film = "synthetic:belt?fps=max&frames=20"
    assert main(["calibrate", model, "--data", film, "--false-alarms", "1 per 8h"]) == 2
    assert "does not say how many frames a second it has: add --fps" in capsys.readouterr().err


def test_evaluate_asked_per_time_of_images_needs_a_rate(
    model: str, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in (["evaluate", model, "--data", str(data)], ["score", model, str(data / "test/good")]):
        assert main([*command, "--false-alarms", "1 per 8h", "--device", "cpu"]) == 2
        assert "add --fps" in capsys.readouterr().err


def test_evaluate_writes_figures_and_plots(
    model: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figures, plots = tmp_path / "figures.json", tmp_path / "plots"
    command = ["evaluate", model, "--data", str(data), "--json", str(figures), "--plots", str(plots)]
    assert main([*command, "--device", "cpu"]) == 0
    found = json.loads(figures.read_text())
    assert found["image_auroc"] == 1.0
    assert found["pixel_auroc"] is None
    assert (found["n_good"], found["n_defect"]) == (4, 4)
    assert {path.name for path in plots.iterdir()} == {"scores.png", "roc.png", "heat_maps.png"}
    assert "image AUROC" in capsys.readouterr().out


def test_score_gives_each_file_its_line_and_fails_at_the_end(
    model: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"nothing")
    paths = [str(data / "test/good"), str(broken), str(data / "test/hole/00.png")]
    capsys.readouterr()
    assert main(["score", model, *paths, "--json", "--device", "cpu"]) == 1
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["status"] for line in lines][4:] == ["unknown", "reject"]
    assert len(lines) == 6
    assert "broken.png" in lines[4]["reason"]
    assert 0 < lines[5]["p_value"] < 0.1
    assert main(["score", model, paths[2], "--device", "cpu"]) == 0
    assert "reject" in capsys.readouterr().out


def test_models_are_listed_shown_verified_promoted_and_rolled_back(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "plate")
    for _ in range(2):
        assert main([*FIT, "--data", str(data), "--out", out]) == 0
    capsys.readouterr()
    assert main(["models", "list", str(tmp_path)]) == 0
    assert [line[:9] for line in capsys.readouterr().out.splitlines()] == ["* plate@1", "  plate@2"]
    assert main(["models", "list", str(tmp_path), "--json"]) == 0
    assert [json.loads(line)["promoted"] for line in capsys.readouterr().out.splitlines()] == [True, False]
    assert main(["models", "promote", f"{out}@2"]) == 0
    assert main(["models", "show", out]) == 0
    assert '"version": 2' in capsys.readouterr().out
    assert main(["models", "rollback", out]) == 0
    assert "plate@1: promoted" in capsys.readouterr().out
    assert main(["models", "verify", f"{out}@2"]) == 0
    (tmp_path / "plate/2/tensors.safetensors").write_bytes(b"damaged")
    assert main(["models", "verify", f"{out}@2"]) == 2
    assert "sha256" in capsys.readouterr().err


def test_weights_are_added_and_listed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LINEWATCH_WEIGHTS", str(tmp_path / "store"))
    assert main(["weights", "list"]) == 0
    assert capsys.readouterr().out == ""
    assert main(["weights", "add", "resnet18", str(tmp_path / "gone.safetensors")]) == 2
    assert "no weights file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("extra", "says"),
    [
        (["--set", "epsilom=1"], "padim has no setting 'epsilom'"),
        (["--set", "epsilon"], "write key=value"),
        (["--set", "epsilon=[1"], "not YAML"),
        (["--set", "epsilon=-1"], "epsilon -1"),
        (["--image-size", "big"], "--image-size 'big' is not understood"),
        (["--image-size", "8"], "--image-size: Input should be greater than or equal to 16"),
        (["--image-size", "8x8x8"], "--image-size '8x8x8' is not understood: write one number or WxH"),
        (["--roi", "1,2,3"], "four numbers"),
        (["--profile", "slow"], "'slow' is not one of"),
        (["--minutes", "0"], "greater than or equal to 0.001"),
        (["--minutes", "5"], "--minutes: padim takes what it takes, only "),
        (["--features-gb", "-1"], "greater than or equal to 0"),
        (["--roi", "50,0,10,20"], "0 <= x0 < x1"),
        (["--mask", "1,2,3"], "pairs"),
        (["--mask", "1,2,3,4"], "at least 3"),
        (["--false-alarms", "1 per 8h"], "add --fps"),
        (["--smooth", "5"], "only video has neighbours in time"),
        (["--false-alarms", "often"], "not understood"),
        (["--detector", "oracle"], "no detector 'oracle'"),
        (["--device", "abacus"], "no device 'abacus'"),
        (["--weights", "nowhere.safetensors"], "no weights file nowhere.safetensors"),
        (["--data", "/nowhere"], "/nowhere"),
    ],
)
def test_wrong_requests_are_one_line_that_says_what(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], extra: list[str], says: str
) -> None:
    code = main([*FIT, "--data", str(data), "--out", str(tmp_path / "plate"), *extra])
    said = capsys.readouterr().err.splitlines()
    assert code == 2
    assert says in said[-1]
    assert not (tmp_path / "plate").exists()


def test_missing_weights_are_one_line_with_three_mends(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LINEWATCH_WEIGHTS", str(tmp_path / "store"))
    without = [part for part in FIT if part not in ("--weights", "random")]
    for weights in ([], ["--weights", "resnet18"]):
        assert main([*without, *weights, "--data", str(data), "--out", str(tmp_path / "plate")]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1
    assert main([*without, "--data", str(data), "--out", str(tmp_path / "plate")]) == 2
    said = capsys.readouterr().err
    assert all(mend in said for mend in ("file", "weights download", "random"))


def test_unknown_model_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["score", str(tmp_path / "nothing"), "a.png"]) == 2
    assert "no model nothing" in capsys.readouterr().err
    assert main(["models", "promote", str(tmp_path / "nothing")]) == 2
    assert "say which version" in capsys.readouterr().err


def test_progress_is_shown_at_a_terminal_once_work_takes_long(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "_PATIENCE_S", -1.0)
    with progress.progress_bar() as report:
        report("fitting", 1, 2)
    assert capsys.readouterr().err == ""  # a pipe
    monkeypatch.setenv("FORCE_COLOR", "1")
    with progress.progress_bar() as report:
        report("fitting", 1, 2, "epoch 1/2, loss 0.5")
        report("calibrating", 2, 2)
    said = capsys.readouterr().err
    assert "fitting" in said
    assert "1/2" in said
    assert "loss 0.5" in said


def test_a_log_gets_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([0.0, 30.0, 61.0, 62.0, 200.0])
    monkeypatch.setattr("linewatch.commands.progress.time.monotonic", lambda: next(now))
    with capture_logs() as logs, progress.progress_bar() as report:
        for done in range(1, 5):
            report("fitting", done, 4, f"loss {done}")
    lines = [(line["event"], line["done"], line["of"], line["about"]) for line in logs]
    assert lines == [("fitting", 2, 4, "loss 2"), ("fitting", 4, 4, "loss 4")]


def test_help_does_not_wait_for_torch() -> None:
    code = "import sys; from linewatch.commands import fitting, judging, models; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=Path(__file__).parents[2]).returncode == 0
