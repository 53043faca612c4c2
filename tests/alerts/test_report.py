"""A shift as it is reported: figures counted by hand, a page in a real Chromium, CSV read back."""

import csv
import io
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from datetime import UTC, time
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import cv2
import httpx
import numpy as np
import pytest
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st

from alerts.pageserver import PageServer
from alerts.report.chart import chart
from alerts.report.contents import LineReport, Report, Timeline
from alerts.report.document import to_json
from alerts.report.downtime import INSPECTED, downtime
from alerts.report.figures import excess, figures, worst
from alerts.report.gather import gather
from alerts.report.period import MINUTE_NS, NS, Period, shift_ago
from alerts.report.pictures import BUDGET, from_store, inlined, shrunk
from alerts.report.render import render
from alerts.report.serving import add_report
from alerts.report.spreadsheet import COLUMNS, EVENT_COLUMNS, events_csv, lines_csv
from alerts.report.wording import Clock
from storage.config import StorageConfig
from storage.history import Counts, History
from storage.records import Alert, AlertKind
from tests.shiftday import HOSTILE, alert, fill

BEGIN = 29_671_200 * MINUTE_NS  # 2026-06-01 00:00 UTC
SHIFT = Period(BEGIN, BEGIN + 480 * MINUTE_NS, is_shift=True)
LINES = ["bottling-1", "yard"]
BERLIN = ZoneInfo("Europe/Berlin")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> StorageConfig:
    return StorageConfig(data=tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def history(store: StorageConfig) -> Iterator[History]:
    history = History.open(store)
    fill(history, store.evidence, BEGIN)
    yield history
    history.close()


@pytest.fixture(scope="module")
def report(history: History) -> Report:
    return gather(history, site="Plant 3", lines=LINES, period=SHIFT, made_ns=SHIFT.end_ns)


@pytest.fixture
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("chromium is not installed: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


def defect(seconds: float, worst: float | None = 0.9, **fields: Any) -> Alert:
    number = round(seconds * 10)
    begin_ns = BEGIN + round(seconds * NS)
    given = {"worst_score": worst, "threshold": 0.5, **fields}
    return alert("a", AlertKind.DEFECT, begin_ns, seconds=1, number=number, **given)


def one_line(*alerts: Alert, minutes: int = 2, **fields: Any) -> Report:
    line = LineReport("a", alerts=alerts, **fields)
    return Report("site", Period(BEGIN, BEGIN + minutes * MINUTE_NS), [line], BEGIN)


# --- figures


def test_figures_are_those_counted_by_hand(report: Report) -> None:
    bottling, yard = (figures(SHIFT, line) for line in report.lines)
    assert bottling.unknown == 25 * 300
    assert bottling.captured == bottling.judged + bottling.unknown == bottling.passed + bottling.rejected + 25 * 300
    assert bottling.reject_ppm == 1e6 * bottling.rejected / bottling.judged
    # Moved for 20 minutes, dark from the tenth minute on for 15: 25 in all. Scores that drift stop no line.
    assert bottling.downtime_s == 25 * 60
    assert bottling.downtime_share == 25 / 480
    assert (bottling.events, bottling.conditions, bottling.acknowledged) == (15, 3, 4)
    assert (bottling.true_defects, bottling.false_alarms, bottling.known_variations) == (2, 1, 1)
    assert (bottling.golden_shown, bottling.golden_missed) == (6, 1)
    # Silent since before the shift: only its own part counts.
    assert (yard.captured, yard.rejected, yard.downtime_s) == (465 * 60, 0, 15 * 60)
    together = figures(SHIFT, *report.lines)
    assert together.captured == bottling.captured + yard.captured
    assert together.downtime_share == (25 + 15) / (2 * 480)


def test_each_cause_is_measured_alone_and_all_together_once(report: Report) -> None:
    lost = downtime(report.lines[0].alerts, SHIFT)
    assert lost.causes == {AlertKind.CAMERA_MOVED: 1200, AlertKind.CAMERA_DARK: 900}
    assert lost.total_s == 1500


@given(
    st.lists(
        st.tuples(st.sampled_from(list(AlertKind)), st.integers(-30, 150), st.one_of(st.none(), st.integers(1, 100))),
        max_size=12,
    )
)
def test_downtime_is_the_seconds_in_which_an_alert_was_open(given: list[tuple[AlertKind, int, int | None]]) -> None:
    period = Period(BEGIN, BEGIN + 2 * MINUTE_NS)
    alerts = [
        alert("a", kind, BEGIN + begin * NS, seconds=lasted, number=n) for n, (kind, begin, lasted) in enumerate(given)
    ]
    seconds = {
        kind: {
            second
            for other, begin, lasted in given
            for second in range(max(0, begin), min(120, 120 if lasted is None else begin + lasted))
            if other is kind
        }
        for kind in set(AlertKind) - INSPECTED
    }
    lost = downtime(alerts, period)
    assert lost.causes == {kind: len(where) for kind, where in seconds.items() if where}
    assert lost.total_s == len(set().union(*seconds.values()))
    assert list(lost.causes.values()) == sorted(lost.causes.values(), reverse=True)


def test_nothing_judged_has_no_rate() -> None:
    nothing = figures(SHIFT, LineReport("a"))
    assert (nothing.captured, nothing.reject_ppm, nothing.unknown_share) == (0, None, None)
    only_unknown = figures(SHIFT, LineReport("a", timeline=Timeline({1: Counts(unknown=5)})))
    assert (only_unknown.reject_ppm, only_unknown.unknown_share) == (None, 1.0)


def test_the_worst_lies_furthest_above_its_own_threshold() -> None:
    strong = defect(1, 30.0, threshold=20.0)
    weak = defect(2, 31.0, threshold=30.0)
    likelihood = defect(3, -5.0, threshold=-10.0)
    unscored = defect(4, None)
    old = defect(5, None, score=0.6)
    line = LineReport("a", alerts=[strong, weak, likelihood, unscored, old])
    assert worst([line], 9) == [strong, likelihood, old, weak, unscored]
    assert worst([line], 2) == [strong, likelihood]
    assert excess(strong) == excess(likelihood) == 0.5


def test_lines_of_no_configuration_any_more_are_reported_too(history: History) -> None:
    some = gather(history, site="s", lines=["new"], period=SHIFT, made_ns=0, others=True)
    assert [line.line for line in some.lines] == ["new", "bottling-1", "yard"]
    assert not some.empty
    only = gather(history, site="s", lines=["new"], period=SHIFT, made_ns=0)
    assert [line.line for line in only.lines] == ["new"]
    assert only.empty


# --- the page


def test_the_page_says_it_all(report: Report, store: StorageConfig, browser: Any, tmp_path: Path) -> None:
    html = render(report, zone=BERLIN, pictures=inlined(from_store(store.evidence), count=12))
    assert len(html) < 5e6
    file = tmp_path / "report.html"
    file.write_text(html, encoding="utf-8")
    page = browser.new_page(viewport={"width": 1100, "height": 900})
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda asked: complaints.append(asked.url) if asked.url.startswith("http") else None)
    page.goto(file.as_uri())
    assert page.title() == "Shift report, Plant 3, Monday 1 June 2026, 02:00 to 10:00"
    assert "Europe/Berlin, CEST (UTC+02:00)" in page.locator("header").inner_text()
    row = page.locator("table.figures tbody tr").first.inner_text().split()
    assert row[:2] == ["bottling-1", f"{figures(SHIFT, report.lines[0]).captured:,}"]
    assert row[-4:] == ["25", "min", "(5.21", "%)"]
    events = page.locator("table.events tbody tr")
    assert events.count() == 15
    third = events.nth(2).inner_text()
    assert "false alarm by Ann Weber" in third
    assert "water drop on the lens" in third
    shown = page.locator("figure.event img")
    assert shown.count() == 12
    for picture in shown.all():
        assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") > 300
    assert page.locator("svg path[fill='#000']").count() == 15
    text = page.locator("main").inner_text()
    for said in ("Camera moved", "20 min", "bottle@4", "scratch-3.png", "6 shown, 1 missed", "Line silent", "(before)"):
        assert said in text
    unnamed = page.locator("table:not(:has(caption)), th:not([scope]), img:not([alt]), svg:not([aria-label])")
    assert unnamed.count() == 0

    page.pdf(path=str(tmp_path / "report.pdf"), prefer_css_page_size=True)
    phone = browser.new_page(viewport={"width": 360, "height": 740})
    phone.goto(file.as_uri())
    assert phone.evaluate("document.documentElement.scrollWidth") <= 360
    assert complaints == []
    _check_print(tmp_path / "report.pdf")


def _check_print(pdf: Path) -> None:
    if shutil.which("pdftotext") is None:
        assert pdf.read_bytes().startswith(b"%PDF")
        return
    said = subprocess.run(["pdftotext", "-layout", str(pdf), "-"], capture_output=True, text=True, check=True).stdout
    pages = said.split("\f")[:-1]
    assert 3 <= len(pages) <= 6
    assert all(re.search(rf"\b{number} ?/ ?{len(pages)}\b", page) for number, page in enumerate(pages, 1))
    # No heading at the foot of a page without what it heads.
    assert not [page for page in pages if re.search(r"(Events|Other alerts|Golden samples)\s+\d+ ?/ ?\d+\s*$", page)]


def test_what_people_write_is_text(browser: Any, tmp_path: Path) -> None:
    alerts = [
        defect(
            1, model=HOSTILE, acknowledged_ns=BEGIN, acknowledged_by=HOSTILE, label="false_alarm", labelled_by=HOSTILE
        ),
        alert("a", AlertKind.CAMERA_DARK, BEGIN, seconds=3, number=9, text=HOSTILE),
    ]
    line = LineReport(
        HOSTILE,
        timeline=Timeline({BEGIN // MINUTE_NS: Counts(1, 1, 1)}),
        reasons={HOSTILE: 1},
        alerts=alerts,
        notes={alerts[0].id: HOSTILE},
    )
    html = render(Report(HOSTILE, SHIFT, [line], BEGIN), zone=UTC, pictures=lambda _: '"><script>alert(1)</script>')
    assert "<script" not in html
    file = tmp_path / "report.html"
    file.write_text(html, encoding="utf-8")
    page = browser.new_page()
    dialogs: list[str] = []
    page.on("dialog", lambda dialog: dialogs.append(dialog.message))
    page.goto(file.as_uri())
    assert page.locator("h2", has_text=HOSTILE).count() == 1
    assert page.locator(".note").inner_text() == HOSTILE
    assert dialogs == []


def test_a_picture_that_is_not_there_says_so(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "torn").mkdir()
    cv2.imwrite(str(tmp_path / "kept" / "frame.jpg"), np.full((40, 60, 3), 99, np.uint8))
    (tmp_path / "torn" / "heat.jpg").write_bytes(b"\xff\xd8\xff broken")
    made = one_line(
        defect(1, evidence="kept"),
        defect(2, evidence="gone"),
        defect(3, evidence="torn"),
        defect(4),
        defect(5, evidence="../.."),
    )
    html = render(made, zone=UTC, pictures=inlined(from_store(tmp_path), count=12))
    assert html.count("data:image/jpeg;base64,") == 1
    assert html.count("has been removed since") == 3
    assert html.count("No picture was kept") == 1


def test_pictures_share_the_room_there_is() -> None:
    noise = np.random.default_rng(1).integers(0, 256, (1500, 2000, 3), np.uint8)
    large = cv2.imencode(".jpg", noise)[1].tobytes()
    for count in (1, 12, 50):
        address = inlined(lambda _: large, count=count)("x")
        assert address is not None
        assert len(address) * count < 1.4 * BUDGET < 5e6
    plain = cv2.imencode(".jpg", np.full((100, 150, 3), 120, np.uint8))[1].tobytes()
    small = shrunk(plain, most=10**6)
    assert small is not None
    assert cv2.imdecode(np.frombuffer(small, np.uint8), cv2.IMREAD_COLOR).shape == (100, 150, 3)


def test_a_time_of_which_nothing_is_known_is_reported_as_that() -> None:
    html = render(Report("s", SHIFT, [LineReport("a")], BEGIN), zone=UTC)
    assert "Nothing is known of this time" in html
    assert "No frame was captured." in html
    assert "so far" not in html


def test_a_running_shift_is_marked_and_its_open_alerts_go_on(history: History) -> None:
    running = Period(BEGIN, BEGIN + 170 * MINUTE_NS, BEGIN + 480 * MINUTE_NS, is_shift=True)
    made = gather(history, site="s", lines=LINES, period=running, made_ns=running.end_ns)
    html = render(made, zone=UTC)
    assert "so far" in html
    assert "what is known until 02:50:00" in html
    assert "goes on" in html
    assert downtime(made.lines[0].alerts, running).total_s == 10 * 60


def test_a_recording_needs_no_history_and_no_clock() -> None:
    timeline = Timeline({BEGIN // NS + second: Counts(25) for second in range(83)}, bin_ns=NS)
    line = LineReport("video", timeline=timeline, alerts=[defect(12.3, evidence="x")])
    made = Report("bench", Period(BEGIN, BEGIN + 83 * NS), [line], BEGIN, elapsed=True)
    html = render(made, pictures=lambda _: "data:image/jpeg;base64,/9j/")
    assert "recording of 1 min 23 s" in html
    assert ">0:00:12.3<" in html
    assert "Verdicts per 1 s" in html
    assert "Times count from the beginning of the recording" in html
    assert "What operators said" not in html


@given(
    st.dictionaries(st.integers(0, 3000), st.builds(Counts, *[st.integers(0, 10**6)] * 3), max_size=30),
    st.integers(1, 3000),
)
def test_every_chart_lies_within_its_frame(counts: dict[int, Counts], minutes: int) -> None:
    period = Period(BEGIN, BEGIN + minutes * MINUTE_NS)
    within = {BEGIN // MINUTE_NS + n: c for n, c in counts.items() if n < minutes}
    html = chart(LineReport("a", timeline=Timeline(within)), Clock(period, BERLIN), name="chart-0")
    drawn = re.findall(r'<rect x="([\d.-]+)" y="([\d.-]+)" width="([\d.-]+)" height="([\d.-]+)"', html)
    # Each sort of verdict that occurs is seen, however few they are.
    for sort, fill_ in (("passed", "#cfd8d3"), ("rejected", "#8b1a1a"), ("unknown", "url(#chart-0-hatch)")):
        assert (f'fill="{fill_}" shape' in html) == any(getattr(c, sort) for c in within.values())
    for x, y, width, height in (map(float, one) for one in drawn):
        assert x >= 43.9
        assert x + width <= 712.7
        assert y >= 10
        assert y + height <= 130.2


def test_ticks_stand_where_the_clock_is_round_also_when_it_is_changed() -> None:
    night = shift_ago(1, now_ns=1_792_915_200 * NS, shifts=[time(6), time(22)], zone=BERLIN)  # 2026-10-25 08:00 UTC
    assert night.seconds == 9 * 3600
    drawn = chart(LineReport("a"), Clock(night, BERLIN), name="c")
    ticks = re.findall(r'<text x="([\d.]+)" y="146"[^>]*>([^<]+)<', drawn)
    assert [text for _, text in ticks] == [
        "22:00",
        "23:00",
        "00:00",
        "01:00",
        "02:00",
        "02:00",
        "03:00",
        "04:00",
        "05:00",
        "06:00",
    ]
    places = [float(x) for x, _ in ticks]
    assert np.allclose(np.diff(places), 668 / 9, atol=0.11)


# --- tables


def test_the_rows_of_lines_read_back(report: Report) -> None:
    rows = list(csv.DictReader(io.StringIO(lines_csv([report], zone=BERLIN))))
    assert [row["line"] for row in rows] == LINES
    assert tuple(rows[0]) == COLUMNS
    first, f = rows[0], figures(SHIFT, report.lines[0])
    assert (first["site"], first["begin"], first["end"]) == (
        "Plant 3", "2026-06-01T02:00:00+02:00", "2026-06-01T10:00:00+02:00"
    )  # fmt: skip
    assert (int(first["captured"]), float(first["reject_ppm"]), first["so_far"]) == (f.captured, f.reject_ppm, "0")
    assert first["unknown_by_reason"] == "moved=6300;dark=1200"
    assert (first["model"], float(first["threshold"])) == ("bottle@4", 0.493)
    assert float(first["precision"]) == 0.5
    assert float(first["overkill_low"]) < float(first["overkill"]) < float(first["overkill_high"])


def test_the_rows_of_events_read_back(report: Report) -> None:
    rows = list(csv.DictReader(io.StringIO(events_csv(report, zone=UTC))))
    assert tuple(rows[0]) == EVENT_COLUMNS
    assert len(rows) == 15
    assert rows[2]["note"] == "water drop on the lens"
    assert rows[2]["label"] == "false_alarm"
    event = report.lines[0].events[2]
    assert float(rows[2]["worst_score"]) == event.worst_score
    assert float(rows[2]["duration_s"]) == pytest.approx(((event.ended_ns or 0) - (event.started_ns or 0)) / NS)


def test_no_cell_is_a_formula() -> None:
    event = defect(1, acknowledged_by='=HYPERLINK("http://x")', model="@x", worst_score=-0.5)
    made = one_line(event, notes={event.id: "+1\nsecond, line"})
    (row,) = csv.DictReader(io.StringIO(events_csv(made, zone=UTC)))
    assert row["acknowledged_by"] == '\'=HYPERLINK("http://x")'
    assert row["model"] == "'@x"
    assert row["note"] == "'+1\nsecond, line"
    assert float(row["worst_score"]) == -0.5


def test_the_document_holds_what_was_gathered(report: Report) -> None:
    read = json.loads(to_json(report, zone=BERLIN))
    assert (read["v"], read["begin"], read["so_far"]) == (1, "2026-06-01T02:00:00+02:00", False)
    line = read["lines"][0]
    assert line["figures"]["captured"] == sum(
        bin_["passed"] + bin_["rejected"] + bin_["unknown"] for bin_ in line["timeline"]["counts"]
    )
    assert line["downtime_s"] == {"camera_moved": 1200, "camera_dark": 900}
    assert [Alert.model_validate({k: v for k, v in one.items() if k != "note"}) for one in line["alerts"]] == list(
        report.lines[0].alerts
    )
    assert len(line["challenges"]) == 6
    assert line["feedback"]["few"] is True


# --- served


@pytest.fixture
def served(history: History, store: StorageConfig, tmp_path: Path) -> Iterator[httpx.Client]:
    """The report on a real server, ten minutes after the shift."""
    app = FastAPI()
    now_ns = SHIFT.end_ns + 10 * MINUTE_NS
    add_report(
        app, history, site="Plant 3", lines=LINES, shifts=[time()], evidence=store.evidence, now_ns=lambda: now_ns
    )
    server = PageServer(app, bind="127.0.0.1:0", url_file=tmp_path / "page.url")
    with httpx.Client(base_url=server.start(), trust_env=False) as client:
        yield client
    server.stop()


def test_the_report_is_served(served: httpx.Client) -> None:
    page = served.get("/report", params={"since": "490min", "line": "bottling-1"})
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    assert page.text.count("data:image/jpeg") == 12
    assert "Together" in served.get("/report", params={"since": "490min"}).text
    running = served.get("/report", params={"shift": "current", "line": HOSTILE})
    assert "so far" in running.text
    assert "<script" not in running.text
    refused = served.get("/report", params={"shift": "next"})
    assert (refused.status_code, "last, current, or 3-ago" in refused.json()["detail"]) == (400, True)
