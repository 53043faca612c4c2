"""`linewatch detectors`: counted, for machines and for people."""

import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from inference.detectors import DETECTORS
from linewatch.cli import main

KEYS = {
    "name",
    "paper",
    "pixel_maps",
    "parameters",
    "trainable_parameters",
    "macs",
    "head_macs",
    "backbone",
    "image_size",
}
QUICK = ["--profile", "quick"]


@pytest.fixture(autouse=True)
def logs_as_before() -> Iterator[None]:
    """Each command points the logs of this process at its own stderr."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    yield
    root.handlers[:] = before
    root.setLevel(level)
    structlog.reset_defaults()


def listed(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, dict[str, object]]:
    capsys.readouterr()
    assert main(["detectors", "--json", *arguments]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [about["name"] for about in found] == list(DETECTORS)
    return {about["name"]: about for about in found}


def test_everything_is_counted_at_the_papers_size(capsys: pytest.CaptureFixture[str]) -> None:
    found = listed(capsys)
    for about in found.values():
        assert about.keys() == KEYS
        assert about["parameters"] >= about["trainable_parameters"] >= 0
        assert about["macs"] >= about["head_macs"] >= 0
        assert about["macs"] > 0
    assert found["padim"]["trainable_parameters"] == found["spade"]["trainable_parameters"] == 0
    msflow = found["msflow"]
    assert msflow["backbone"] == "efficientnet_b5"
    assert msflow["image_size"] == [768, 768]
    assert msflow["trainable_parameters"] / 1e6 == pytest.approx(14.06, rel=0.005)
    assert msflow["head_macs"] / 1e9 == pytest.approx(8.1, rel=0.005)


def test_settings_apply_to_their_detector(capsys: pytest.CaptureFixture[str]) -> None:
    before = listed(capsys, *QUICK)
    after = listed(
        capsys,
        *QUICK,
        *("--set", "msflow.backbone=resnet50", "--set", "msflow.subfeatures=2"),
        *("--set", "padim.image_size=[64, 128]", "--set", "padim.dimensions=10"),
    )
    changed = {name for name in DETECTORS if before[name] != after[name]}
    assert changed == {"msflow", "padim"}
    assert after["msflow"]["backbone"] == "resnet50"
    assert after["padim"]["image_size"] == [64, 128]
    # A tenth of the dimensions in an eighth of the cells.
    assert after["padim"]["parameters"] < before["padim"]["parameters"]


def test_the_table_says_what_its_figures_count(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["detectors", *QUICK]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "MACs of the head" in lines[0]
    assert "(as MS-Flow's table 4)" in lines[1]
    rows = {line.split()[0]: line for line in lines[2:]}
    assert rows.keys() == set(DETECTORS)
    assert "0.00 M" in rows["padim"]
    head = [row.index(" G", row.index(" G") + 2) for row in rows.values()]
    assert len(set(head)) == 1  # right-aligned


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("subfeatures=6", "write detector.key=value, for example msflow.subfeatures=6"),
        ("msflow.subfeatures", "write detector.key=value"),
        ("nothing.key=1", "no detector 'nothing' among padim, spade, vae, msflow, mlff"),
        ("msflow.wings=2", "msflow has no setting 'wings': it has"),
        ("msflow.subfeatures=1", "msflow's setting subfeatures 1"),
        ("msflow.subfeatures=[", "the value is not YAML"),
        ("padim.image_size=[7, x]", "write [width, height], 16 to 4096 pixels"),
        ("padim.image_size=3", "write [width, height], 16 to 4096 pixels"),
        ("padim.dimensions=4000", "dimensions 4000 exceed"),
        ("padim.layers=[layer9]", "resnet18 has no nodes"),
    ],
)
def test_a_wrong_setting_costs_one_line(given: str, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["detectors", *QUICK, "--set", given]) in (1, 2)
    said = capsys.readouterr()
    assert said.out == ""
    (line,) = said.err.splitlines()
    assert line.startswith("linewatch: ")
    assert says in line
