import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from rich.console import Console

from linewatch.cli import main
from tests.inference import trees

RUN = ["benchmark", "--dataset", "mvtec", "--detectors", "padim", "--weights", "random", "--device", "cpu"]
SMALL = ["--set", "image_size=48", "--set", "padim.dimensions=8"]


@pytest.fixture(autouse=True)
def logs_as_before() -> Iterator[None]:
    """Each command points the logs of this process at its own stderr."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    yield
    root.handlers[:] = before
    root.setLevel(level)
    structlog.reset_defaults()


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trees.mvtec(tmp_path_factory.mktemp("mvtec"), "bottle", "screw")


def test_tables_results_and_plots_are_written_and_nothing_is_measured_twice(root, tmp_path, capsys):
    file, plots = tmp_path / "results.json", tmp_path / "plots"
    command = [*RUN, *SMALL, "--root", str(root), "--json", str(file), "--plots", str(plots)]
    assert main(command) == 0
    said = capsys.readouterr()
    assert "### padim on MVTec AD: 55x55 bicubic, centre 48x48 cut out, resnet18" in said.out
    assert "| bottle | " in said.out
    assert "| mean of 2 categories | " in said.out
    assert "1/2 padim bottle: image AUROC " in said.err
    assert f"wrote {plots / 'mvtec-padim.png'}" in said.err
    found = json.loads(file.read_text(encoding="utf-8"))
    assert len(found["results"]) == 2
    assert [row["name"] for row in found["tables"][0]["rows"]] == ["bottle", "screw", "mean of 2 categories"]
    assert main([*command, "--seeds", "2", "--categories", "screw"]) == 0
    said = capsys.readouterr()
    assert "1/2 padim screw: " in said.err
    assert "(kept from before)" in said.err
    assert "2/2 padim screw seed 1: " in said.err
    assert "Mean and standard deviation over 2 seeds." in said.out
    assert len(json.loads(file.read_text(encoding="utf-8"))["results"]) == 3


def test_results_have_a_place_of_their_own(root, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main([*RUN, *SMALL, "--root", str(root), "--categories", "bottle"]) == 0
    assert (tmp_path / "var/benchmark/mvtec.json").is_file()
    assert "results: var/benchmark/mvtec.json" in capsys.readouterr().err


def test_a_terminal_sees_a_table_not_markdown(root, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(Console, "is_terminal", True)
    command = [*RUN, *SMALL, "--root", str(root), "--categories", "bottle", "--json", str(tmp_path / "r.json")]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "padim on MVTec AD" in said
    assert "bottle" in said
    assert "|" not in said


def test_settings_and_weights_go_to_the_detector_they_name(root, tmp_path, capsys):
    file = tmp_path / "r.json"
    settings = ["--set", "image_size=[64, 48]", "--set", "padim.dimensions=8", "--set", "spade.neighbours=1"]
    command = ["--detectors", "padim,spade", "--weights", f"spade={tmp_path / 'none.pth'}", "--weights", "padim=random"]
    assert main([*RUN[:3], "--root", str(root), *command, *settings, "--json", str(file), "--device", "cpu"]) == 2
    assert f"no weights file {tmp_path / 'none.pth'}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dataset", "mnist"], "no dataset 'mnist': choose one of mvtec, rd-mvtec"),
        (["--dataset", "btad"], "does not hold BTAD: expected {01,02,03}/"),
        (["--detectors", "padim,oracle"], "no detector 'oracle': choose one of"),
        (["--detectors", ","], "--detectors is empty"),
        (["--categories", "nut"], "has no category 'nut': it has bottle, screw"),
        (["--set", "epsilon"], "--set 'epsilon': write key=value or detector.key=value"),
        (["--set", "padim.=1"], "write key=value or detector.key=value"),
        (["--set", "msflow.hidden=3"], "no detector 'msflow' among padim"),
        (["--set", "colour=red"], "padim has no setting 'colour'"),
        (["--set", "epsilon=[1"], "the value is not YAML; quote it"),
        (["--set", "image_size=7"], "--set image_size=7: write one number or [width, height], 16 to 4096"),
        (["--set", "seed=7"], "seed has an option of its own: --seed"),
        (["--every", "5"], "MVTec AD has no training videos"),
        (["--weights", "nowhere.pth"], "no weights file nowhere.pth"),
        (["--device", "abacus"], "no device 'abacus' here"),
        (["--profile", "slow"], "--profile"),
    ],
)
def test_wrong_requests_are_one_line(arguments, message, root, tmp_path, capsys):
    assert main([*RUN, "--root", str(root), "--json", str(tmp_path / "r.json"), *arguments]) == 2
    said = capsys.readouterr()
    assert message in said.err
    assert len(said.err.splitlines()) == 1
    assert said.out == ""


def test_bad_data_is_one_line_and_what_was_done_is_kept(tmp_path, capsys):
    root, file = trees.mvtec(tmp_path / "data", "bottle", "screw"), tmp_path / "r.json"
    (root / "screw/test/good/001.png").write_bytes(b"no picture")
    assert main([*RUN, *SMALL, "--root", str(root), "--json", str(file)]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith(f"linewatch: test image {root / 'screw/test/good/001.png'} cannot be used")
    assert len(json.loads(file.read_text(encoding="utf-8"))["results"]) == 1
