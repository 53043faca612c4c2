"""The operators' page in a real Chromium, served by the real service."""

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import cv2
import numpy as np
import pytest
import redis

from alerts.board import LineView, Point
from alerts.config import AlertRules, AlertsConfig, PageConfig
from alerts.pages.alertrow import clock, said, span, when
from alerts.pages.moment import KINDS, mood
from alerts.pages.sparkline import sparkline
from storage.config import StorageConfig
from storage.history import History
from storage.lines import Lines
from storage.records import Alert, AlertKind, LineState, Status

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture
def browser_page() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("chromium is not installed: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield browser.new_page(viewport={"width": 1400, "height": 900})
        browser.close()


def picture(file: Path, grey: int) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(file), np.full((60, 80, 3), grey, np.uint8))


def test_an_operator_sees_lines_and_alerts_and_acknowledges(
    start_service: Callable[..., Any], redis_client: redis.Redis, storage: StorageConfig, belt: Any, browser_page: Any
) -> None:
    page, lines = browser_page, Lines(redis_client)
    requests: list[str] = []
    errors: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.on("websocket", lambda websocket: requests.append(websocket.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    picture(storage.evidence / "latest" / "a.jpg", 90)
    picture(storage.evidence / "a" / "e" / "heat.jpg", 200)
    lines.record([*belt.verdicts(*["pass"] * 20), belt.verdict("reject", evidence="a/e")])
    rules = {"a": AlertRules(clear_after=1000, silent_after=0), "quiet": AlertRules(silent_after=0)}
    service = start_service(AlertsConfig(page=PageConfig(bind="127.0.0.1:0"), sinks=()), rules)
    page.goto(service.url())
    history = History.open(storage)

    card = page.locator('[data-line="a"]')
    card.get_by_text("Defect").wait_for()
    assert card.get_attribute("data-tone") == "bad"
    assert card.locator('[data-counter="captured"] dd').inner_text() == "21"
    assert card.locator('[data-counter="rejects"] dd').inner_text() == "1"
    assert card.locator("svg circle.reject").count() == 1
    assert "threshold 0.5" in str(card.locator("svg[role=img]").get_attribute("aria-label"))
    assert page.locator('[data-line="quiet"]').get_by_text("Waiting").is_visible()
    row = page.locator(".lw-alert")
    assert "threshold" in row.inner_text()
    assert "ongoing" in row.inner_text()
    assert row.get_attribute("data-open") == "yes"
    for shown in (card.locator("img"), row.locator("img")):
        assert shown.evaluate("image => image.decode().then(() => image.naturalWidth)") == 80

    # Live, without a reload.
    lines.record(belt.verdicts("reject", "pass"))
    row.get_by_text("2\N{MULTIPLICATION SIGN}").wait_for()
    card.locator('[data-counter="captured"] dd').get_by_text("23").wait_for()

    page.get_by_label("Your name").fill("Ann <b>Weber</b>")
    row.get_by_role("button", name="Acknowledge").click()
    row.get_by_text("seen by Ann <b>Weber</b>").wait_for()
    (alert,) = history.alerts()
    assert alert.acknowledged_by == "Ann <b>Weber</b>"

    page.reload()
    page.locator(".lw-alert").get_by_text("seen by Ann").wait_for()
    deadline = time.monotonic() + 10
    while page.get_by_label("Your name").input_value() != "Ann <b>Weber</b>":
        assert time.monotonic() < deadline
        time.sleep(0.05)

    assert errors == []
    assert {urlsplit(url).hostname for url in requests if not url.startswith("data:")} == {"127.0.0.1"}
    assert any(url.startswith("ws:") for url in requests)
    assert not (storage.data / ".nicegui").exists()
    assert service.terminate() == 0
    assert not (storage.data / "page.url").exists()
    history.close()


def test_an_operator_sees_the_event_and_says_what_it_was(
    start_service: Callable[..., Any], redis_client: redis.Redis, storage: StorageConfig, belt: Any, browser_page: Any
) -> None:
    page, lines = browser_page, Lines(redis_client)
    picture(storage.evidence / "a" / "first" / "heat.jpg", 200)
    picture(storage.evidence / "a" / "worst" / "heat.jpg", 100)
    lines.record([belt.verdict("reject", evidence="a/first"), *belt.verdicts(*["reject"] * 11)])
    rules = {"a": AlertRules(clear_after=5, silent_after=0)}
    service = start_service(AlertsConfig(page=PageConfig(bind="127.0.0.1:0"), sinks=()), rules)
    page.goto(service.url())
    history = History.open(storage)

    row = page.locator(".lw-alert")
    row.get_by_text("12\N{MULTIPLICATION SIGN}").wait_for()
    assert "ongoing, 1.1 s so far" in row.inner_text()
    assert "/evidence/a/first/" in row.locator("img").get_attribute("src")
    # A worse frame takes the place of the first, in the row that is there.
    lines.record([belt.verdict("reject", score=7.25, evidence="a/worst"), *belt.verdicts(*["pass"] * 60)])
    row.get_by_text("worst score 7.25, threshold 0.5").wait_for()  # whatever the case of its first letter
    row.get_by_text("1.2 s").wait_for()
    assert "ongoing" not in row.inner_text()
    assert "/evidence/a/worst/" in row.locator("img").get_attribute("src")

    # A label acknowledges, and another one takes its place.
    page.get_by_label("Your name").fill("Ann <b>Weber</b>")
    for word, label in (("True defect", "true_defect"), ("False alarm", "false_alarm")):
        button = row.get_by_role("button", name=word)
        assert button.get_attribute("aria-pressed") == "false"
        button.click()
        row.get_by_text(f"{word.lower()}, says Ann <b>Weber</b>").wait_for()
        (pressed,) = row.locator('[aria-pressed="true"]').all()
        assert pressed.inner_text().endswith(word)
        assert history.alerts()[0].label == label
    assert not row.get_by_role("button", name="Acknowledge").is_visible()
    assert history.alerts()[0].acknowledged_by == "Ann <b>Weber</b>"

    page.set_viewport_size({"width": 360, "height": 800})
    page.reload()
    page.locator('.lw-alert [aria-pressed="true"]').wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    assert service.terminate() == 0
    history.close()


# --- what it is made of ----------------------------------------------------------------------------------------


def test_every_kind_of_alert_has_a_word() -> None:
    assert set(KINDS) == set(AlertKind)
    assert len({shown.word for shown in KINDS.values()}) == len(AlertKind)


def test_the_gravest_alert_gives_a_line_its_word() -> None:
    def alert(kind: AlertKind) -> Alert:
        return Alert(id="a/1/0/x", line="a", kind=kind, text="", raised_ns=0)

    good = LineState(line="a", status=Status.PASS)
    assert mood(LineView(LineState(line="a"))).word == "Waiting"
    assert mood(LineView(good)).word == "Good"
    opened = {kind: alert(kind) for kind in (AlertKind.DEFECT, AlertKind.CAMERA_LOST)}
    assert mood(LineView(good, open=opened)).word == "Camera lost"


def test_what_a_row_says() -> None:
    seen = {"id": "a/1/0/x", "line": "a", "raised_ns": 0, "score": 0.6, "threshold": 0.5}
    text = "Defect at the top, 2 % of the picture: score 0.6 is above the threshold 0.5."
    defect = Alert(kind=AlertKind.DEFECT, text=text, **seen)
    assert said(defect) == "At the top, 2 % of the picture: score 0.6 is above the threshold 0.5."
    worse = defect.model_copy(update={"worst_score": 7.25})
    assert said(worse) == "At the top, 2 % of the picture: worst score 7.25, threshold 0.5"
    added_up = Alert(kind=AlertKind.DEFECT, text="Defect: evidence adds up to 9.", worst_score=0.4, **seen)
    assert said(added_up) == "Evidence adds up to 9."
    assert said(Alert(kind=AlertKind.CAMERA_MOVED, text="Camera moved: turn it back.", **seen)) == "Turn it back."
    assert said(Alert(kind=AlertKind.DRIFT, text="Scores drift.", **seen)) == "Scores drift."


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.04, "0.0 s"), (1.23, "1.2 s"), (35, "35 s"), (150, "2 min"), (9000, "2.5 h")]
)
def test_how_long_an_event_lasted(seconds: float, words: str) -> None:
    assert span(round(seconds * 1e9)) == words


def test_an_event_of_one_frame_has_one_time() -> None:
    event = {
        "id": "a/1/0/x",
        "line": "a",
        "kind": AlertKind.DEFECT,
        "text": "",
        "raised_ns": 10**9,
        "cleared_ns": 10**10,
    }
    assert when(Alert(started_ns=10**9, ended_ns=10**9, **event)) == clock(10**9)
    assert when(Alert(started_ns=10**9, ended_ns=3 * 10**9, **event)).endswith(f" to {clock(3 * 10**9)} · 2.0 s")
    assert "ongoing" in when(Alert(**{**event, "cleared_ns": None}))


def test_sparkline() -> None:
    judged = [Point(Status.PASS, 0.2, 0.5), Point(Status.REJECT, 0.9, 0.5)]
    drawn = sparkline([*judged, Point(Status.UNKNOWN, None, None), *judged])
    assert drawn.count("<polyline") == 2
    assert drawn.count("<circle") == 2
    assert drawn.count('class="missing"') == 1
    assert 'aria-label="last score 0.9, threshold 0.5"' in drawn
    assert "no scores yet" in sparkline([])
    assert "<polyline" in sparkline([Point(Status.PASS, 0.0, 0.0)])
