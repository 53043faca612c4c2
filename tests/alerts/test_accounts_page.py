"""Logins in a real Chromium, on the page that the real service serves."""

# ruff: noqa: ARG001 - fixtures are asked for by name, for what they have done

import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from alerts.config import AlertRules, AlertsConfig, PageConfig
from storage.accounts import Accounts
from storage.config import StorageConfig
from storage.history import START, Consequences, History
from storage.records import Alert, AlertKind, Change, Transition
from storage.roles import Role

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
ALERT = Alert(id="a/1/7/defect", line="a", kind=AlertKind.DEFECT, text="Defect.", raised_ns=5)
PASSWORD = "a long enough one"


@pytest.fixture
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("chromium is not installed: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield browser
        browser.close()


@pytest.fixture
def history(storage: StorageConfig, monkeypatch: pytest.MonkeyPatch) -> Iterator[History]:
    monkeypatch.setattr("storage.passwords._COST", 16)
    history = History.open(storage)
    raised = Transition(change=Change.RAISED, alert=ALERT, at_ns=5)
    history.commit(Consequences(position="1-0", transitions=[raised]), after=START)
    yield history
    history.close()


@pytest.fixture
def accounts(history: History) -> Accounts:
    accounts = Accounts(history.database)
    accounts.add("maria", Role.OPERATOR, PASSWORD, now_ns=1)
    accounts.add("wall", Role.VIEWER, PASSWORD, now_ns=1)
    return accounts


@pytest.fixture
def service(start_service: Callable[..., Any]) -> Any:
    config = AlertsConfig(page=PageConfig(bind="127.0.0.1:0"), sinks=())
    return start_service(config, {"a": AlertRules(silent_after=0)})


def log_in(page: Any, name: str, password: str = PASSWORD) -> None:
    """With the keyboard alone: the first field has the focus."""
    page.locator("input:focus").wait_for()
    if page.locator("#name").input_value() != name:
        page.locator("#name").fill("")
        page.locator("#name").focus()
        page.keyboard.type(name)
        page.keyboard.press("Tab")
    page.keyboard.type(password)
    page.keyboard.press("Enter")


def test_an_operator_logs_in_acts_and_logs_out(
    service: Any, accounts: Accounts, history: History, browser: Any, tmp_path: Path
) -> None:
    page = browser.new_context(viewport={"width": 1400, "height": 900}).new_page()
    errors: list[str] = []
    requests: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(service.url() + "/report?shift=last")
    assert page.url.endswith("/login?next=%2Freport%3Fshift%3Dlast")
    assert {url for url in requests if not url.startswith(service.url())} <= {
        url for url in requests if url[:5] == "data:"
    }
    page.screenshot(path=tmp_path / "login.png")

    log_in(page, "maria", "not the password")
    page.get_by_role("alert").get_by_text("No account has this name and password.").wait_for()
    assert page.locator("#name").input_value() == "maria"
    page.screenshot(path=tmp_path / "wrong.png")
    log_in(page, "maria")
    page.wait_for_url("**/report?shift=last")

    page.goto(service.url())
    row = page.locator(".lw-alert")
    row.get_by_role("button", name="Acknowledge").click()
    row.get_by_text("seen by maria").wait_for()
    assert page.get_by_label("Your name").count() == 0
    page.screenshot(path=tmp_path / "overview.png")
    page.set_viewport_size({"width": 360, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    page.screenshot(path=tmp_path / "phone.png")

    other = page.context.new_page()
    other.goto(service.url())
    other.locator(".lw-alert").wait_for()
    page.get_by_role("button", name="Log out").click()
    page.wait_for_url("**/login")
    # The other tab has lost its websocket with the session, and says why.
    other.wait_for_url("**/login?ended")
    assert "Your login has ended" in other.content()
    page.go_back()
    page.wait_for_url("**/login*")
    assert page.locator(".lw-alert").count() == 0
    assert errors == []
    assert history.alert(ALERT.id).acknowledged_by == "maria"  # type: ignore[union-attr] # it is there
    for secret in (PASSWORD, "not the password"):
        assert secret not in service.log


def test_a_viewer_sees_no_buttons_and_an_operator_who_becomes_one_cannot_press_them(
    service: Any, accounts: Accounts, history: History, browser: Any
) -> None:
    page = browser.new_page()
    page.goto(service.url())
    log_in(page, "wall")
    row = page.locator(".lw-alert")
    row.wait_for()
    assert row.get_by_role("button", name="Acknowledge").count() == 0
    assert row.locator(".lw-labels").count() == 0
    assert page.get_by_text("may look").is_visible()

    page = browser.new_context().new_page()
    page.goto(service.url())
    log_in(page, "maria")
    button = page.locator(".lw-alert").get_by_role("button", name="Acknowledge")
    button.wait_for()
    accounts.set_role("maria", Role.VIEWER)
    button.click()
    page.get_by_text("Your account may look, not act.").wait_for()
    assert history.events(ALERT.id) == [Change.RAISED]

    accounts.remove("maria")
    page.wait_for_url("**/login?ended")


def handshake(url: httpx.URL, **headers: str) -> str:
    """Ask for the page's websocket; the first line of the answer."""
    import socket

    asked = {
        "Host": f"{url.host}:{url.port}",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version": "13",
        **headers,
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in asked.items())
    with socket.create_connection((url.host, url.port or 0), timeout=20) as connection:
        path = "/_nicegui_ws/socket.io/?EIO=4&transport=websocket"
        connection.sendall(f"GET {path} HTTP/1.1\r\n{lines}\r\n".encode())
        return connection.recv(4096).split(b"\r\n")[0].decode()


def test_the_websocket_is_behind_the_same_gate(service: Any, accounts: Accounts) -> None:
    url = httpx.URL(service.url())
    refused, open_ = "HTTP/1.1 403 Forbidden", "HTTP/1.1 101 Switching Protocols"
    assert handshake(url) == refused
    assert handshake(url, Cookie="linewatch=made-up") == refused
    polling = "/_nicegui_ws/socket.io/?EIO=4&transport=polling"
    assert httpx.get(f"{url}{polling}", trust_env=False).status_code == 401
    with httpx.Client(base_url=url, trust_env=False, timeout=30) as client:
        client.post("/login", data={"name": "maria", "password": PASSWORD})
        cookie = f"linewatch={client.cookies['linewatch']}"
        assert handshake(url, Cookie=cookie) == open_
        assert handshake(url, Cookie=cookie, Origin=f"http://{url.host}:{url.port}") == open_
        assert handshake(url, Cookie=cookie, Origin="http://evil.example") == refused
        assert handshake(url, Cookie=cookie, Origin="null") == refused
        client.post("/logout")
    assert handshake(url, Cookie=cookie) == refused


def test_a_page_that_others_reach_is_not_opened_without_an_account(
    start_service: Callable[..., Any], history: History
) -> None:
    config = AlertsConfig(page=PageConfig(bind="0.0.0.0:0"), sinks=())
    service = start_service(config, {"a": AlertRules(silent_after=0)})
    assert service.wait() == 1
    assert "there are no accounts: `linewatch accounts add CONFIG NAME`" in service.log
    Accounts(history.database).add("maria", Role.VIEWER, PASSWORD, now_ns=1)
    service.start()
    assert httpx.get(service.url() + "/api/lines", trust_env=False).status_code == 401


def test_no_secret_is_on_a_command_line(service: Any, accounts: Accounts) -> None:
    service.url()
    token = accounts.make_token("maria", now_ns=time.time_ns())
    shown = subprocess.run(["ps", "axww", "-o", "args"], capture_output=True, text=True, check=True).stdout
    assert "serve.py" in shown
    assert token not in shown
    assert token not in service.log
