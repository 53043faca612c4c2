"""`linewatch report` on a real history, as a person asks for it."""

import csv
import json
import logging
import shutil
import time
from collections.abc import Iterator
from datetime import datetime
from datetime import time as of_day
from itertools import pairwise
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
import structlog

from alerts.report.period import at, shift_ago
from linewatch.cli import main
from storage.config import StorageConfig
from storage.history import History
from tests.shiftday import fill

# No shift begins while these tests run.
SHIFTS = tuple(of_day((datetime.now(ZoneInfo("Europe/Berlin")).hour + hours) % 24) for hours in (-4, 4, 12))
CONFIG = f"""
shifts: [{", ".join(f"'{shift:%H:%M}'" for shift in SHIFTS)}]
site: "Plant 3/Halle <b>"
data: data/
lines:
  - {{id: bottling-1, source: "synthetic:belt", model: bottle}}
  - {{id: quiet, source: "synthetic:belt", model: bottle}}
"""


@pytest.fixture(autouse=True)
def logs_as_before() -> Iterator[None]:
    """Each command points the logs of this process at its own stderr."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    yield
    root.handlers[:] = before
    root.setLevel(level)
    structlog.reset_defaults()


@pytest.fixture(autouse=True, scope="module")
def berlin() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", "Europe/Berlin")
        time.tzset()
        yield
    time.tzset()


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory, berlin: None) -> Path:  # noqa: ARG001 - shifts are local
    """A site whose last shift is on record."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "lw.yaml").write_text(CONFIG, encoding="utf-8")
    history = History.open(StorageConfig(data=folder / "data"))
    last = shift_ago(1, now_ns=time.time_ns(), shifts=SHIFTS)
    fill(history, folder / "data" / "evidence", last.begin_ns, length=round(last.seconds / 60))
    history.close()
    return folder


@pytest.fixture
def site(filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same, in a folder of the test's own, which is the current one."""
    shutil.copytree(filled, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_last_shift_becomes_a_page_named_after_it(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "lw.yaml"]) == 0
    begin = at(shift_ago(1, now_ns=time.time_ns(), shifts=SHIFTS).begin_ns, None)
    name = f"shift-Plant-3-Halle-b-{begin:%Y-%m-%d-%H%M}.html"
    assert [path.name for path in site.glob("*.html")] == [name]
    said = capsys.readouterr().out
    assert f"written: {name}" in said
    assert "bottling-1" in said
    assert "25 min (" in said
    page = (site / name).read_text(encoding="utf-8")
    assert page.count("data:image/jpeg") == 12
    assert "Plant 3/Halle &lt;b&gt;" in page
    assert "yard" in page  # it is in no configuration any more, and was watched
    assert "CET" in page or "CEST" in page


def test_one_line_as_a_sheet_and_a_document(site: Path) -> None:
    asked = ["--line", "bottling-1", "--shift", "1-ago", "--csv", "out.csv", "--json", "out.json"]
    assert main(["report", "lw.yaml", *asked]) == 0
    assert sorted(path.name for path in site.glob("out*")) == ["out-events.csv", "out.csv", "out.json"]
    assert list(site.glob("*.html")) == []
    with (site / "out.csv").open(encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    with (site / "out-events.csv").open(encoding="utf-8") as file:
        assert len(list(csv.DictReader(file))) == int(row["events"]) == 15
    read = json.loads((site / "out.json").read_text(encoding="utf-8"))
    assert read["lines"][0]["figures"]["captured"] == int(row["captured"]) == read["figures"]["captured"]


def test_days_are_cut_into_shifts_for_a_sheet(site: Path) -> None:
    assert main(["report", "lw.yaml", "--since", "2d", "--line", "bottling-1", "--csv", "out.csv"]) == 0
    with (site / "out.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) in (6, 7, 8)
    assert all(before["end"] == after["begin"] for before, after in pairwise(rows))
    assert {row["begin"][11:16] for row in rows[1:]} <= {f"{shift:%H:%M}" for shift in SHIFTS}
    assert sum(int(row["events"]) for row in rows) == 15


def test_pictures_may_be_fewer_or_gone(site: Path) -> None:
    assert main(["report", "lw.yaml", "--html", "few.html", "--pictures", "3"]) == 0
    assert (site / "few.html").read_text(encoding="utf-8").count("data:image/jpeg") == 3
    shutil.rmtree(site / "data" / "evidence")
    assert main(["report", "lw.yaml", "--html", "none.html"]) == 0
    assert (site / "none.html").read_text(encoding="utf-8").count("has been removed since") == 12


def test_a_new_site_has_a_truthful_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "lw.yaml").write_text(CONFIG, encoding="utf-8")
    out = tmp_path / "r.html"
    assert main(["report", str(tmp_path / "lw.yaml"), "--shift", "current", "--html", str(out)]) == 0
    assert "nothing is known of this time" in capsys.readouterr().out
    page = out.read_text(encoding="utf-8")
    assert "Nothing is known of this time" in page
    assert "so far" in page


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (["--line", "nobody"], "no line 'nobody'"),
        (["--shift", "tomorrow"], "write last, current, or 3-ago"),
        (["--shift", "last", "--since", "8h"], "give one of them"),
        (["--until", "8h"], "give `since` too"),
        (["--since", "soon"], "'soon' is no time"),
        (["--since", "1h", "--until", "2h"], "ends before it begins"),
        (["--pictures", "-1"], "pictures"),
    ],
)
def test_a_wrong_request_is_one_line(
    site: Path, asked: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", "lw.yaml", *asked]) == 2
    assert said in capsys.readouterr().err
    assert list(site.glob("*.html")) == []


@pytest.mark.usefixtures("site")
def test_a_file_that_cannot_be_written_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "lw.yaml", "--html", "no/such/folder.html"]) == 1
    assert "no/such/folder.html: No such file or directory: name a file" in capsys.readouterr().err
