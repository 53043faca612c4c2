"""`linewatch recommend` as a person types it."""

import json
import logging
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
import typer

from inference.detectors import DETECTORS
from inference.training import candidates
from linewatch.cli import app, main
from tests.plates import write_plates


@pytest.fixture(autouse=True)
def logs_as_before() -> Iterator[None]:
    """Each command points the logs of this process at its own stderr."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    yield
    root.handlers[:] = before
    root.setLevel(level)
    structlog.reset_defaults()


@pytest.fixture(autouse=True)
def small_detectors(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("template", "blind", "broken"):
        monkeypatch.setitem(DETECTORS, name, f"tests.inference.small_detectors:{name.title()}")
    monkeypatch.setattr(candidates, "_REPEATS", 1)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_plates(tmp_path_factory.mktemp("some plates") / "line 7", 30))


def command(data: str, *more: str) -> list[str]:
    return ["recommend", "--data", data, "--image-size", "64", "--device", "cpu", "--budget-ms", "1e6", *more]


def test_the_table_the_reason_and_what_to_run_next(
    data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figures, plots = tmp_path / "found.json", tmp_path / "plots"
    arguments = command(data, "--detectors", "blind, template,broken,padim", "--backbones", "resnet18")
    assert main([*arguments, "--weights", "random", "--json", str(figures), "--plots", str(plots)]) == 0
    said = capsys.readouterr().out
    lines = said.splitlines()
    assert lines[1].split()[:2] == ["detector", "ms"]
    assert lines[2].startswith(">")
    assert max(map(len, lines[:6])) <= 80
    assert "broken: failed, ValueError: a hammer fell on it" in said
    assert "24 good images to fit on, 6 to judge; compared on made-up defects: confetti, cutpaste, scar" in said
    found = json.loads(figures.read_text())
    assert [trial["status"] for trial in found["trials"]].count("chosen") == 1
    assert found["trials"][-1]["detector"] == "broken"
    assert found["why"] in said
    assert {path.name for path in plots.iterdir()} == {"tradeoff.png", "made_up_defects.png"}
    printed = next(line for line in lines if line.startswith("next: "))
    given = _understood(shlex.split(printed.removeprefix("next: ")))
    assert str(given["out"]) == "models/line-7"
    assert given["image_size"] == "64"
    assert given["profile"] is None  # quick on a CPU
    assert printed == f"next: {found['command']}"


def _understood(words: list[str]) -> dict[str, object]:
    """What the program makes of the recommended command line."""
    assert words[:2] == ["linewatch", "fit"]
    fit = typer.main.get_command(app).commands["fit"]
    return dict(fit.make_context("fit", words[2:], resilient_parsing=False).params)


def test_where_the_papers_profile_is_usual_the_command_asks_for_the_quick_one(
    data: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As on CUDA: the candidates were compared at quick settings."""
    monkeypatch.setattr("inference.training.recommend.default_profile", lambda _: "paper")
    assert main([*command(data), "--detectors", "template", "--every", "2", "--limit", "50"]) == 0
    printed = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("next: "))
    given = _understood(shlex.split(printed.removeprefix("next: ")))
    asked = {key: given[key] for key in ("detector", "profile", "device", "every", "limit", "minutes", "resume")}
    assert asked == {
        "detector": "template",
        "profile": "quick",
        "device": "cpu",
        "every": 2,
        "limit": 50,
        "minutes": None,
        "resume": False,
    }


def test_without_anybody_fast_enough_it_fails_and_says_what_to_do(
    data: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command(data), "--budget-ms", "0.001", "--detectors", "template"]) == 1
    said = capsys.readouterr().out
    assert "template: too slow, judges an image in" in said
    assert "raise --budget-ms or lower --image-size" in said


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        (["--detectors", "nonsense"], "no detector 'nonsense'"),
        (["--backbones", "vgg"], "no backbone 'vgg'"),
        (["--weights", "none.pth"], "no weights file none.pth"),
        (["--image-size", "many"], "--image-size 'many' is not understood"),
        (["--image-size", "4x4"], "sides are 16 to 4096 pixels"),
        (["--data", "nowhere"], "nowhere"),
    ],
)
def test_a_wrong_request_is_one_line(
    data: str, wrong: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command(data), "--detectors", "template", *wrong]) == 2
    said = capsys.readouterr().err
    assert complaint in said
    assert len(said.splitlines()) == 1
