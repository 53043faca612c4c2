"""Logins over the real server: who gets in, who may act, what ends a session, and what other sites' pages cannot do."""

# ruff: noqa: ARG001 - fixtures are asked for by name, for what they have done

import http.client
import json
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlencode

import httpx
import pytest

from alerts.accounts import Access, is_local
from alerts.api import create_app
from alerts.board import Board
from alerts.config import AlertRules, PageConfig
from alerts.errors import PageError
from alerts.pageserver import PageServer
from storage.accounts import Accounts
from storage.config import StorageConfig
from storage.errors import StoreUnavailable
from storage.history import START, Consequences, History
from storage.labels import Labels
from storage.records import Alert, AlertKind, Change, Label, Transition
from storage.roles import Role

ALERT = Alert(id="a/1/7/defect", line="a", kind=AlertKind.DEFECT, text="Defect.", raised_ns=5)
PASSWORD = "a long enough one"
ACKNOWLEDGE = f"/api/alerts/{ALERT.id}/acknowledge"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hashes cost little here; what they cost elsewhere is looked at in tests/storage."""
    monkeypatch.setattr("storage.passwords._COST", 16)


class Clock:
    def __init__(self) -> None:
        self.ns = time.time_ns()

    def __call__(self) -> int:
        return self.ns

    def later(self, seconds: float) -> None:
        self.ns += round(seconds * 1e9)


@pytest.fixture
def history(tmp_path: Path) -> Iterator[History]:
    history = History.open(StorageConfig(data=tmp_path))
    raised = Transition(change=Change.RAISED, alert=ALERT, at_ns=5)
    history.commit(Consequences(position="1-0", transitions=[raised]), after=START)
    yield history
    history.close()


@pytest.fixture
def accounts(history: History) -> Accounts:
    return Accounts(history.database)


@pytest.fixture
def people(accounts: Accounts) -> Accounts:
    """maria may act, wall may look."""
    accounts.add("maria", Role.OPERATOR, PASSWORD, now_ns=1)
    accounts.add("wall", Role.VIEWER, PASSWORD, now_ns=1)
    return accounts


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def serve(history: History, tmp_path: Path, clock: Clock) -> Iterator[Callable[..., str]]:
    """serve(page configuration) -> the address of a running server."""
    servers: list[PageServer] = []

    def start(**page: object) -> str:
        config = PageConfig.model_validate({"bind": "127.0.0.1:0", **page})
        app = create_app(
            Board(history, {"a": AlertRules()}),
            history,
            evidence=tmp_path / "evidence",
            acknowledge=lambda alert, by: history.acknowledge(alert, by=by, now_ns=9),
            label=lambda alert, said, by, note: Labels(history).label(alert, said, by=by, note=note, now_ns=9),
            access=Access(history.database, config, now_ns=clock, monotonic=lambda: clock.ns / 1e9),
        )
        servers.append(PageServer(app, bind=config.bind, url_file=tmp_path / "page.url", proxies=config.proxies))
        return servers[-1].start()

    yield start
    for server in servers:
        server.stop()


@pytest.fixture
def browser() -> Iterator[Callable[[str], httpx.Client]]:
    """browser(address) -> keeps cookies, follows nothing."""
    clients: list[httpx.Client] = []

    def make(url: str) -> httpx.Client:
        clients.append(httpx.Client(base_url=url, trust_env=False, timeout=30))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


def log_in(client: httpx.Client, name: str = "maria", password: str = PASSWORD, **fields: str) -> httpx.Response:
    return client.post("/login", data={"name": name, "password": password, **fields})


# --- who gets in -----------------------------------------------------------------------------------------------


STRANGERS = ["/api/lines", "/api/alerts", f"/api/alerts/{ALERT.id}", "/evidence/a/1/heat.jpg", "/api/latest/a.jpg",
             "/session", "/openapi.json", "/", "/report", "/_nicegui/x.js", "/no/such/thing", "/healthz/", "//healthz",
             "/login/../api/lines", "/metrics/x"]  # fmt: skip


@pytest.mark.parametrize("path", STRANGERS)
def test_nothing_is_served_to_a_stranger(
    serve: Callable[..., str], browser: Callable[[str], httpx.Client], people: Accounts, path: str
) -> None:
    url = httpx.URL(serve())
    connection = http.client.HTTPConnection(url.host, url.port or 0, timeout=10)
    connection.request("GET", path)  # as it stands: httpx would tidy it up
    answer = connection.getresponse()
    assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert b"defect" not in answer.read().lower()
    connection.close()
    page = browser(str(url)).get("/report?shift=last", headers={"Accept": "text/html"})
    assert (page.status_code, page.headers["location"]) == (303, "/login?next=%2Freport%3Fshift%3Dlast")


def test_without_accounts_this_machine_needs_no_login(
    serve: Callable[..., str], browser: Callable[[str], httpx.Client], accounts: Accounts
) -> None:
    client = browser(serve())
    assert client.get("/api/alerts").status_code == 200
    assert client.get("/session").json() == {"name": None, "role": None}
    assert client.get("/login").status_code == 303
    accounts.add("maria", Role.OPERATOR, PASSWORD, now_ns=1)
    assert client.get("/api/alerts").status_code == 401, "from the first account on"
    accounts.remove("maria")
    assert client.get("/api/alerts").status_code == 200


def test_a_login_and_its_cookie(
    serve: Callable[..., str], browser: Callable[[str], httpx.Client], people: Accounts, history: History
) -> None:
    client = browser(serve())
    asked = client.get("/login?next=/report")
    assert 'value="/report"' in asked.text
    assert "script-src" not in asked.headers["content-security-policy"]
    assert "default-src 'none'" in asked.headers["content-security-policy"]
    answer = log_in(client, "Maria", next="/report")
    assert (answer.status_code, answer.headers["location"]) == (303, "/report")
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert "Secure" not in cookie, "over http a browser would not keep it"
    assert "Max-Age" not in cookie
    assert client.get("/session").json() == {"name": "maria", "role": "operator"}
    token = client.cookies["linewatch"]
    assert len(token) >= 43, "256 bits"
    raw = (history.database.name.removeprefix("sqlite:///"),)
    for file in Path(raw[0]).parent.glob("history.db*"):
        content = file.read_bytes()
        assert token.encode() not in content
        assert PASSWORD.encode() not in content


@pytest.mark.parametrize(
    ("name", "password"),
    [
        ("maria", "not the password"),
        ("nobody", PASSWORD),
        ("", ""),
        ("maria", ""),
        ("maria", PASSWORD + " "),
        ("maria", "x" * 5000),
        ("maria' OR '1'='1", PASSWORD),
        ("maria\x00", PASSWORD),
        ("\ud800".encode("utf-8", "surrogatepass").decode("latin-1"), PASSWORD),
        ('<script>alert("1")</script>', "x"),
    ],
)
def test_who_does_not_know_the_password_is_told_one_thing(
    serve: Callable[..., str], browser: Callable[[str], httpx.Client], people: Accounts, name: str, password: str
) -> None:
    client = browser(serve())
    answer = log_in(client, name, password)
    assert answer.status_code == 401
    assert "No account has this name and password." in answer.text
    assert "set-cookie" not in answer.headers
    assert "<script" not in answer.text
    assert client.get("/api/lines").status_code == 401


@pytest.mark.parametrize(
    "there",
    [
        "https://evil.example/",
        "//evil.example",
        "/\\evil.example",
        "/\t/evil.example",
        "javascript:alert(1)",
        "/a\r\nX: y",
    ],
)
def test_a_login_goes_on_to_no_other_site(
    serve: Callable[..., str], browser: Callable[[str], httpx.Client], people: Accounts, there: str
) -> None:
    answer = log_in(browser(serve()), next=there)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    assert "x" not in answer.headers


def test_a_token_of_somebody_else_is_never_taken_on(
    serve: Callable[..., str], browser: Callable[[str], httpx.Client], people: Accounts
) -> None:
    client = browser(serve())
    client.cookies.set("linewatch", "planted", domain="127.0.0.1")
    answer = log_in(client)
    first = answer.cookies["linewatch"]
    assert first != "planted"
    client.cookies.clear()
    client.cookies.set("linewatch", first, domain="127.0.0.1")
    second = log_in(client).cookies["linewatch"]
    assert second != first
    old = browser(str(client.base_url))
    old.cookies.set("linewatch", first, domain="127.0.0.1")
    assert old.get("/api/lines").status_code == 401, "what the browser had before has ended"


def test_too_many_wrong_passwords(
    serve: Callable[..., str],
    browser: Callable[[str], httpx.Client],
    people: Accounts,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("alerts.accounts.matches", lambda password, kept: kept is not None and password == PASSWORD)
    client = browser(serve())
    for _ in range(10):
        assert log_in(client, password="wrong").status_code == 401
    refused = log_in(client)
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "30")
    assert "wait 30 s" in refused.text
    for name in ("nobody", "wall"):
        assert log_in(client, name, "wrong").status_code == 401, "others may still try"
    clock.later(31)
    assert log_in(client).status_code == 303


# --- what ends a session ---------------------------------------------------------------------------------------


def test_a_logout_ends_it_everywhere(
    serve: Callable[..., str], browser: Callable[[str], httpx.Client], people: Accounts
) -> None:
    client = browser(serve())
    token = log_in(client).cookies["linewatch"]
    answer = client.post("/logout")
    assert (answer.status_code, answer.headers["location"]) == (303, "/login")
    assert "Max-Age=0" in answer.headers["set-cookie"]
    client.cookies.set("linewatch", token, domain="127.0.0.1")
    assert client.get("/api/lines").status_code == 401
    assert client.get("/logout").status_code == 401, "a picture of another site logs nobody out"


@pytest.mark.parametrize(
    "change",
    [lambda accounts: accounts.remove("maria"), lambda accounts: accounts.set_password("maria", "another, long one")],
    ids=["removed", "password"],
)
def test_a_change_of_the_account_ends_it_at_once(
    serve: Callable[..., str],
    browser: Callable[[str], httpx.Client],
    people: Accounts,
    change: Callable[[Accounts], None],
) -> None:
    client, other = (browser(url) for url in [serve()] * 2)
    log_in(client)
    log_in(other, "wall")
    assert client.get("/api/lines").status_code == 200
    change(people)
    assert client.get("/api/lines").status_code == 401
    assert other.get("/api/lines").status_code == 200


def test_a_password_that_is_changed_while_it_is_verified_opens_nothing(
    people: Accounts, history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(password: str, kept: str | None) -> bool:
        people.set_password("maria", "another, long one")
        return kept is not None

    monkeypatch.setattr("alerts.accounts.matches", slow)
    access = Access(history.database, PageConfig())
    assert access.log_in("maria", PASSWORD, address="127.0.0.1") is None


def test_an_idle_session_ends_and_a_used_one_ends_later(
    serve: Callable[..., str], browser: Callable[[str], httpx.Client], people: Accounts, clock: Clock
) -> None:
    client = browser(serve(idle="1h", session="3h"))
    log_in(client)
    for _ in range(3):
        clock.later(50 * 60)
        assert client.get("/", headers={"Sec-Fetch-Mode": "navigate"}).status_code in (200, 404)
        assert client.get("/api/lines").status_code == 200
    clock.later(50 * 60)
    assert client.get("/api/lines").status_code == 401, "three hours are over"
    log_in(client)
    clock.later(61 * 60)
    assert client.get("/api/lines").status_code == 401, "an hour without a press; what a page asks by itself is none"


# --- who may act -----------------------------------------------------------------------------------------------


def test_an_operator_signs_with_the_name_of_the_account(
    serve: Callable[..., str], browser: Callable[[str], httpx.Client], people: Accounts, history: History
) -> None:
    client = browser(serve())
    log_in(client)
    assert client.post(ACKNOWLEDGE, json={"by": "boss"}).json()["acknowledged_by"] == "maria"
    body = {"label": "false_alarm", "by": "boss"}
    assert client.post(f"/api/alerts/{ALERT.id}/label", json=body).json()["labelled_by"] == "maria"
    missed = {"line": "a", "captured_ns": 5, "by": "boss"}
    assert client.post("/api/escapes", json=missed).json()["by"] == "maria"
    assert [said.by for said in Labels(history).said(ALERT.id)] == ["maria"]


@pytest.mark.parametrize("by", ["cookie", "token"])
def test_a_viewer_looks_and_does_nothing(
    serve: Callable[..., str],
    browser: Callable[[str], httpx.Client],
    people: Accounts,
    history: History,
    by: str,
) -> None:
    client = browser(serve())
    if by == "cookie":
        log_in(client, "wall")
    else:
        client.headers["Authorization"] = f"Bearer {people.make_token('wall', now_ns=1)}"
    assert client.get("/api/alerts").status_code == 200
    bodies = {ACKNOWLEDGE: {}, f"/api/alerts/{ALERT.id}/label": {"label": "false_alarm"},
              "/api/escapes": {"line": "a", "captured_ns": 5}, "/no/such/thing": {}}  # fmt: skip
    for path, body in bodies.items():
        answer = client.post(path, json=body)
        assert (answer.status_code, "viewer" in answer.json()["detail"]) == (403, True)
    assert history.events(ALERT.id) == [Change.RAISED]
    people.set_role("wall", Role.OPERATOR)
    assert client.post(ACKNOWLEDGE).json()["acknowledged_by"] == "wall"


def test_a_token_is_for_programs(
    serve: Callable[..., str], browser: Callable[[str], httpx.Client], people: Accounts
) -> None:
    client = browser(serve())
    first = people.make_token("maria", now_ns=1)
    assert first.startswith("lw_")
    client.headers["Authorization"] = f"Bearer {first}"
    assert client.post(ACKNOWLEDGE, headers={"Origin": "http://erp.example"}).json()["acknowledged_by"] == "maria"
    people.set_password("maria", "another, long one")
    assert client.get("/api/lines").status_code == 200, "it has nothing to do with the password"
    second = people.make_token("maria", now_ns=2)
    assert client.get("/api/lines").status_code == 401, "there is one at a time"
    client.headers["Authorization"] = f"bearer {second}"
    assert client.get("/api/lines").status_code == 200
    people.drop_token("maria")
    assert client.get("/api/lines").status_code == 401
    for wrong in ("Bearer", "Bearer None", "Basic bWFyaWE6eA==", "Bearer " + "x" * 9000, "Bearer \xff"):
        headers = {"Authorization": wrong.encode("latin-1")}
        assert client.get("/api/lines", headers=headers).status_code == 401


# --- other sites' pages ----------------------------------------------------------------------------------------


FORGED = [
    {"Origin": "http://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://127.0.0.1:1"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
]


@pytest.mark.parametrize("headers", FORGED, ids=str)
def test_another_sites_page_changes_nothing(
    serve: Callable[..., str], browser: Callable[[str], httpx.Client], people: Accounts, headers: dict[str, str]
) -> None:
    client = browser(serve())
    log_in(client)
    for path in (ACKNOWLEDGE, "/logout", "/login"):
        assert client.post(path, headers=headers).status_code == 403
    assert client.get("/api/lines").status_code == 200
    assert client.post(ACKNOWLEDGE, headers={"Sec-Fetch-Site": "same-origin"}).status_code == 200


def test_a_link_on_another_site_leads_to_the_page_of_who_is_logged_in(
    serve: Callable[..., str], browser: Callable[[str], httpx.Client], people: Accounts
) -> None:
    client = browser(serve())  # SameSite=Strict: such a request comes without the cookie
    answer = client.get("/report", headers={"Accept": "text/html", "Sec-Fetch-Site": "cross-site"})
    assert (answer.status_code, 'http-equiv="refresh"' in answer.text) == (200, True)


@pytest.mark.parametrize(
    ("host", "status"),
    [("localhost", 200), ("127.0.0.1", 200), ("192.0.2.7", 200), ("[::1]", 200), (socket.gethostname(), 200),
     ("page.plant.example", 200), ("PAGE.plant.example.", 200), ("evil.example", 421), ("", 421),
     ("localhost.evil.example", 421), ("127.0.0.1.evil.example", 421)],
)  # fmt: skip
def test_a_name_that_somebody_else_lets_point_here(serve: Callable[..., str], host: str, status: int) -> None:
    url = httpx.URL(serve(hosts=["page.plant.example"]))
    connection = http.client.HTTPConnection(url.host, url.port or 0, timeout=10)
    connection.request("GET", "/api/lines", headers={"Host": f"{host}:{url.port}" if host else ""})
    assert connection.getresponse().status == status
    connection.close()


def test_a_browser_is_told_to_keep_to_itself(
    serve: Callable[..., str], browser: Callable[[str], httpx.Client], people: Accounts
) -> None:
    client = browser(serve())
    for answer in (client.get("/api/lines"), client.get("/login"), log_in(client), client.get("/api/lines")):
        for name, value in (
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "same-origin"),
            ("cross-origin-opener-policy", "same-origin"),
            ("cross-origin-resource-policy", "same-origin"),
            ("cache-control", "no-store"),
        ):
            assert answer.headers[name] == value
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert "microphone=()" in answer.headers["permissions-policy"]
        assert "server" not in answer.headers


# --- what is bounded -------------------------------------------------------------------------------------------


def test_a_body_is_bounded(serve: Callable[..., str], browser: Callable[[str], httpx.Client], people: Accounts) -> None:
    client = browser(serve())
    assert log_in(client, "x" * 9000).status_code == 413
    log_in(client)

    def endless() -> Iterator[bytes]:
        for _ in range(100):
            yield b" " * 1000

    for body in (b" " * 70_000, endless()):
        assert client.post(ACKNOWLEDGE, content=body).status_code == 413
    assert client.post(ACKNOWLEDGE, content=b'{"by": "ann"}', headers={"Content-Type": "application/json"}).is_success
    many = urlencode([("name", "x")] * 50)
    assert client.post("/login", content=many).status_code == 400


# --- what is open ----------------------------------------------------------------------------------------------


def test_health_is_open_and_tells_strangers_nothing(
    serve: Callable[..., str], browser: Callable[[str], httpx.Client], people: Accounts
) -> None:
    client = browser(serve())
    assert client.get("/healthz").json() == {"status": "ok", "ailments": [], "undelivered": {}}, "on this machine"
    assert client.get("/healthz", headers={"X-Forwarded-For": "203.0.113.7"}).json() == {"status": "ok"}
    assert client.get("/healthz", headers={"Host": "anything"}).status_code == 200
    log_in(client)
    assert "ailments" in client.get("/healthz", headers={"X-Forwarded-For": "203.0.113.7"}).json()


def test_metrics_are_for_this_machine_or_a_token(
    serve: Callable[..., str], browser: Callable[[str], httpx.Client], people: Accounts
) -> None:
    client = browser(serve())
    assert client.get("/metrics").status_code != 401
    for headers in ({"X-Forwarded-For": "203.0.113.7"}, {"Forwarded": "for=1.2.3.4"}, {"Host": "evil.example"}):
        assert client.get("/metrics", headers=headers).status_code == 401
    headers = {"Authorization": f"Bearer {people.make_token('wall', now_ns=1)}", "X-Forwarded-For": "203.0.113.7"}
    assert client.get("/metrics", headers=headers).status_code != 401


@pytest.mark.parametrize(
    ("client", "server", "forwarded", "proxies", "local"),
    [
        ("127.0.0.1", "127.0.0.1", False, (), True),
        ("::1", "::1", False, (), True),
        ("192.0.2.1", "192.0.2.1", False, (), True),
        ("192.0.2.9", "192.0.2.1", False, (), False),
        ("127.0.0.1", "127.0.0.1", True, (), False),
        ("127.0.0.1", "127.0.0.1", False, ("127.0.0.0/8",), False),
        ("", "", False, (), False),
    ],
)
def test_what_is_made_on_this_machine(
    client: str, server: str, forwarded: bool, proxies: tuple[str, ...], local: bool
) -> None:
    assert is_local(client=client, server=server, forwarded=forwarded, proxies=proxies) is local


def test_a_trusted_proxy_says_that_it_was_https(
    serve: Callable[..., str], browser: Callable[[str], httpx.Client], people: Accounts
) -> None:
    headers = {"X-Forwarded-Proto": "https", "X-Forwarded-For": "203.0.113.7"}
    data = {"name": "maria", "password": PASSWORD}
    behind = browser(serve(proxies=["127.0.0.0/8"]))
    cookie = behind.post("/login", data=data, headers=headers).headers["set-cookie"]
    assert cookie.startswith("__Host-linewatch=")
    assert "Secure" in cookie
    lying = browser(serve()).post("/login", data=data, headers=headers)
    assert "Secure" not in lying.headers["set-cookie"]


def test_accounts_that_cannot_be_read_let_nobody_in(
    serve: Callable[..., str],
    browser: Callable[[str], httpx.Client],
    people: Accounts,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    client = browser(serve())
    log_in(client)

    def away(*_: object, **__: object) -> None:
        raise StoreUnavailable("history: does not answer")

    monkeypatch.setattr(Access, "visitor", away)
    assert client.get("/api/lines").status_code == 503
    assert client.post(ACKNOWLEDGE).status_code == 503
    assert client.get("/healthz").status_code == 200


def test_what_other_machines_reach_needs_an_account(history: History, accounts: Accounts) -> None:
    for bind in ("0.0.0.0:8700", "192.0.2.7:8700", "plant-pc:8700"):
        with pytest.raises(PageError, match=r"there are no accounts: `linewatch accounts add CONFIG NAME`, or let"):
            Access(history.database, PageConfig(bind=bind)).check()
        assert Access(history.database, PageConfig(bind=bind)).visitor() is None
        Access(history.database, PageConfig(bind=bind, open=True)).check()
        assert Access(history.database, PageConfig(bind=bind, open=True)).visitor() is not None
    for bind in ("127.0.0.1:0", "localhost:0", "127.8.8.8:0"):
        Access(history.database, PageConfig(bind=bind)).check()
    accounts.add("maria", Role.VIEWER, PASSWORD, now_ns=1)
    Access(history.database, PageConfig(bind="0.0.0.0:8700")).check()
    assert Access(history.database, PageConfig(bind="0.0.0.0:8700", open=True)).visitor() is None


def test_a_page_that_was_let_in_without_a_login_is_not_once_there_are_accounts(
    history: History, accounts: Accounts
) -> None:
    access = Access(history.database, PageConfig())
    before = access.visitor()
    assert before is not None
    assert access.still(before) == before
    accounts.add("maria", Role.OPERATOR, PASSWORD, now_ns=1)
    assert access.still(before) is None
    token = access.log_in("maria", PASSWORD, address="127.0.0.1")
    logged_in = access.visitor(session=token)
    assert logged_in is not None
    assert access.still(logged_in) == logged_in
    accounts.remove("maria")
    assert access.still(logged_in) is None, "though this machine needs no login again"


# --- hostile names ---------------------------------------------------------------------------------------------


HOSTILE = [
    "'; DROP TABLE alerts; --",
    '" OR 1=1 --',
    "a\r\nFLUSHALL\r\n",
    "*",
    "lw:{p0}:line:a",
    "${file:/etc/passwd}",
    "{{7*7}}",
    "<img src=x onerror=alert(1)>",
    "../../etc/passwd",
    "\N{RIGHT-TO-LEFT OVERRIDE}a",
]


@pytest.mark.parametrize("hostile", HOSTILE, ids=repr)
def test_hostile_names_are_only_texts(
    serve: Callable[..., str], browser: Callable[[str], httpx.Client], history: History, hostile: str
) -> None:
    client = browser(serve())
    assert client.get("/api/alerts", params={"line": hostile}).json() == []
    assert client.get(f"/api/lines/{httpx.QueryParams(x=hostile)}/feedback").status_code in (404, 422)
    assert client.post("/api/escapes", json={"line": hostile, "captured_ns": 5}).status_code == 422
    answer = client.post(ACKNOWLEDGE, json={"by": hostile})
    assert (answer.status_code, answer.json()["acknowledged_by"]) == (200, hostile)
    said = {"label": "false_alarm", "by": hostile, "note": hostile}
    assert client.post(f"/api/alerts/{ALERT.id}/label", json=said).status_code == 200
    (kept,) = Labels(history).said(ALERT.id)
    assert (kept.by, kept.note, kept.label) == (hostile, hostile, Label.FALSE_ALARM)
    assert history.alerts() == [history.alert(ALERT.id)]


def test_a_text_with_a_zero_byte_is_none(
    serve: Callable[..., str], browser: Callable[[str], httpx.Client], history: History
) -> None:
    client = browser(serve())
    assert client.get("/api/alerts", params={"line": "\x00"}).status_code == 422
    for body in ({"by": "\x00"}, {"by": "a\x00b"}, {"by": "\ud800"}):
        answer = client.post(ACKNOWLEDGE, content=json.dumps(body), headers={"Content-Type": "application/json"})
        assert answer.status_code == 422
    assert client.get("/api/alerts/a%00").status_code == 404
    assert history.events(ALERT.id) == [Change.RAISED]
