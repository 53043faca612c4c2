import http.client
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from alerts.api import create_app
from alerts.board import Board
from alerts.config import AlertRules
from alerts.errors import PageError
from alerts.pageserver import PageServer
from storage.config import StorageConfig
from storage.errors import StoreUnavailable
from storage.history import START, Consequences, Counts, History
from storage.labels import Labels
from storage.records import Alert, AlertKind, Change, Label, LineState, Transition

ALERT = Alert(id="a/1/7/defect", line="a", kind=AlertKind.DEFECT, text="Defect.", raised_ns=5)


@pytest.fixture
def history(tmp_path: Path) -> Iterator[History]:
    history = History.open(StorageConfig(data=tmp_path))
    history.commit(
        Consequences(position="1-0", transitions=[Transition(change=Change.RAISED, alert=ALERT, at_ns=5)]), after=START
    )
    yield history
    history.close()


@pytest.fixture
def board(history: History) -> Board:
    return Board(history, {"a": AlertRules()})


@pytest.fixture
def evidence(tmp_path: Path) -> Path:
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    folder = tmp_path / "evidence"
    (folder / "latest").mkdir(parents=True)
    (folder / "latest" / "a.jpg").write_bytes(b"latest")
    (folder / "a" / "1").mkdir(parents=True)
    (folder / "a" / "1" / "heat.jpg").write_bytes(b"heat")
    (folder / "a" / "1" / "note.txt").write_bytes(b"note")
    (folder / "a" / "way-out.jpg").symlink_to(tmp_path / "secret.jpg")
    return folder


@pytest.fixture
def client(board: Board, history: History, evidence: Path) -> Iterator[httpx.Client]:
    def acknowledge(alert_id: str, by: str) -> Alert:
        return history.acknowledge(alert_id, by=by, now_ns=9)

    def label(alert_id: str, said: Label, by: str, note: str) -> Alert:
        return Labels(history).label(alert_id, said, by=by, note=note, now_ns=9)

    app = create_app(board, history, evidence=evidence, acknowledge=acknowledge, label=label)
    server = PageServer(app, bind="127.0.0.1:0", url_file=evidence.parent / "page.url")
    with httpx.Client(base_url=server.start(), trust_env=False) as client:
        yield client
    server.stop()


def test_lines(client: httpx.Client, board: Board) -> None:
    assert client.get("/api/lines").json()[0]["line"] == "a"
    board.turn([LineState(line="a", captured=9, passed=4, rejected=1)])
    board.stale()
    (line,) = client.get("/api/lines").json()
    assert (line["captured"], line["passed"], line["open"]) == (9, 4, 4)


def test_alerts(client: httpx.Client) -> None:
    assert client.get("/api/alerts").json() == [ALERT.model_dump(mode="json")]
    assert len(client.get("/api/alerts?open=true").json()) == 1
    assert client.get("/api/alerts?open=false").json() == []
    assert client.get("/api/alerts?line=b").json() == []
    assert client.get("/api/alerts?limit=0").status_code == 422
    assert client.get(f"/api/alerts/{ALERT.id}").json()["id"] == ALERT.id
    assert client.get("/api/alerts/a/1/8/defect").status_code == 404


def test_acknowledge(client: httpx.Client, history: History) -> None:
    answer = client.post(f"/api/alerts/{ALERT.id}/acknowledge", json={"by": "ann"})
    assert (answer.status_code, answer.json()["acknowledged_by"]) == (200, "ann")
    found = history.alert(ALERT.id)
    assert found is not None
    assert found.acknowledged_by == "ann"
    assert client.post("/api/alerts/nothing/acknowledge").status_code == 404
    assert client.post(f"/api/alerts/{ALERT.id}/acknowledge", json={"by": ""}).status_code == 422


def test_acknowledged_by_nobody_in_particular(client: httpx.Client) -> None:
    assert client.post(f"/api/alerts/{ALERT.id}/acknowledge").json()["acknowledged_by"] == "operator"


def test_another_sites_page_may_not_acknowledge(client: httpx.Client, history: History) -> None:
    path = f"/api/alerts/{ALERT.id}/acknowledge"
    assert client.post(path, headers={"Origin": "http://evil.example"}).status_code == 403
    assert history.events(ALERT.id) == [Change.RAISED]
    assert client.post(path, headers={"Origin": str(client.base_url)}).status_code == 200


def test_label(client: httpx.Client, history: History) -> None:
    path = f"/api/alerts/{ALERT.id}/label"
    answer = client.post(path, json={"label": "false_alarm", "by": "ann", "note": "a shadow"})
    assert (answer.status_code, answer.json()["label"], answer.json()["acknowledged_by"]) == (200, "false_alarm", "ann")
    assert client.post(path, json={"label": "known_variation", "by": "bob"}).json()["labelled_by"] == "bob"
    found = history.alert(ALERT.id)
    assert found is not None
    assert (found.label, found.acknowledged_by) == (Label.KNOWN_VARIATION, "ann")
    assert [(said.label, said.by, said.note) for said in Labels(history).said(ALERT.id)] == [
        (Label.FALSE_ALARM, "ann", "a shadow"),
        (Label.KNOWN_VARIATION, "bob", ""),
    ]


@pytest.mark.parametrize("body", [None, {}, {"label": "dust"}, {"label": "false_alarm", "by": ""}, {"label": 1}])
def test_what_is_no_label(client: httpx.Client, history: History, body: object) -> None:
    assert client.post(f"/api/alerts/{ALERT.id}/label", json=body).status_code == 422
    assert Labels(history).said(ALERT.id) == []


def test_labels_are_guarded_like_acknowledgements(client: httpx.Client, history: History) -> None:
    body = {"label": "false_alarm"}
    assert client.post("/api/alerts/nothing/label", json=body).status_code == 404
    path = f"/api/alerts/{ALERT.id}/label"
    assert client.post(path, json=body, headers={"Origin": "http://evil.example"}).status_code == 403
    assert Labels(history).said(ALERT.id) == []
    assert history.events(ALERT.id) == [Change.RAISED]


def test_feedback(client: httpx.Client, history: History) -> None:
    now_ns = time.time_ns()
    alert = ALERT.model_copy(update={"id": "a/1/8/defect", "raised_ns": now_ns, "count": 3})
    history.commit(
        Consequences(
            position="2-0",
            transitions=[
                Transition(change=Change.CLEARED, alert=ALERT.model_copy(update={"cleared_ns": 6}), at_ns=6),
                Transition(change=Change.RAISED, alert=alert, at_ns=now_ns),
            ],
            minutes={("a", now_ns // 60_000_000_000): Counts(passed=97, rejected=3)},
        ),
        after="1-0",
    )
    assert client.get("/api/lines/a/feedback").json()["overkill"]["value"] is None
    client.post(f"/api/alerts/{alert.id}/label", json={"label": "false_alarm"})
    said = client.get("/api/lines/a/feedback").json()
    assert (said["alerts"], said["false_alarms"], said["few"]) == (1, 1, True)
    assert said["overkill"]["value"] == pytest.approx(0.03)
    assert said["suggestion"]["because"].startswith("too few labels")
    assert client.get("/api/lines/b/feedback").status_code == 404
    assert client.get("/api/lines/a/feedback?since_s=0").status_code == 422


def test_escapes(client: httpx.Client, history: History) -> None:
    now_ns = time.time_ns()
    body = {"line": "a", "captured_ns": now_ns - 10**9, "part": "P17", "by": "ann", "note": "found by the customer"}
    answer = client.post("/api/escapes", json=body)
    assert answer.status_code == 200
    (escape,) = Labels(history).escapes("a", since_ns=0)
    assert answer.json() == escape.model_dump(mode="json")
    assert (escape.part, escape.by) == ("P17", "ann")
    assert client.get("/api/lines/a/feedback").json()["escapes"] == 1
    assert client.post("/api/escapes", json={**body, "line": "b"}).status_code == 404
    assert client.post("/api/escapes", json={**body, "captured_ns": 2**63}).status_code == 422


def test_pictures(client: httpx.Client) -> None:
    assert client.get("/api/latest/a.jpg").content == b"latest"
    answer = client.get("/evidence/a/1/heat.jpg")
    assert answer.content == b"heat"
    assert answer.headers["content-type"] == "image/jpeg"


def test_a_picture_that_is_replaced_meanwhile_comes_whole(client: httpx.Client, evidence: Path) -> None:
    done = threading.Event()

    def replace() -> None:
        file, turn = evidence / "latest" / "a.jpg", 0
        while not done.is_set():
            turn += 1
            (evidence / "next.jpg").write_bytes(bytes([turn % 2]) * (200_000 if turn % 2 else 10))
            (evidence / "next.jpg").replace(file)

    camera = threading.Thread(target=replace)
    camera.start()
    try:
        seen = {client.get("/api/latest/a.jpg").content for _ in range(200)} - {b"latest"}
    finally:
        done.set()
        camera.join()
    assert seen <= {b"\x00" * 10, b"\x01" * 200_000}
    assert seen


@pytest.mark.parametrize(
    "path",
    [
        "/evidence/../secret.jpg",
        "/evidence/%2e%2e/secret.jpg",
        "/evidence/a/..%2f..%2fsecret.jpg",
        "/evidence/%2fetc%2fpasswd",
        "/evidence//etc/passwd",
        "/evidence/a/way-out.jpg",
        "/evidence/a/1/note.txt",
        "/evidence/a/1",
        "/evidence/a%00.jpg",
        "/evidence/" + "x" * 5000 + ".jpg",
        "/api/latest/..%2f..%2fsecret.jpg",
        "/api/latest/b.jpg",
    ],
)
def test_nothing_else_is_a_picture(client: httpx.Client, path: str) -> None:
    connection = http.client.HTTPConnection(str(client.base_url.host), client.base_url.port or 0, timeout=10)
    connection.request("GET", path)  # as it stands: httpx would tidy it up
    answer = connection.getresponse()
    assert answer.status in (404, 422)
    assert b"secret" not in answer.read()
    connection.close()


def test_health(client: httpx.Client, board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = client.get("/healthz")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok", "ailments": [], "undelivered": {}})
    board.trouble("redis does not answer")
    assert client.get("/healthz").status_code == 503
    board.turn([])
    assert client.get("/healthz").status_code == 200
    later = time.monotonic() + 60
    monkeypatch.setattr(time, "monotonic", lambda: later)
    assert "not been followed for 60 s" in client.get("/healthz").json()["ailments"][0]


def test_a_hole_stays_visible(client: httpx.Client, board: Board) -> None:
    board.hole("verdicts were missed")
    board.turn([])
    assert client.get("/healthz").json()["ailments"] == ["verdicts were missed"]


def test_a_history_that_is_away(client: httpx.Client, history: History, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(**_: object) -> list[Alert]:
        raise StoreUnavailable("history: does not answer")

    monkeypatch.setattr(history, "alerts", away)
    answer = client.get("/api/alerts")
    assert (answer.status_code, answer.json()["detail"]) == (503, "history: does not answer")
    assert client.get("/api/lines").status_code == 200


def test_the_browser_is_told_to_load_nothing_from_elsewhere(client: httpx.Client) -> None:
    headers = client.get("/api/lines").headers
    assert "default-src 'self'" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert client.get("/docs").status_code == 404


# --- where it is served ----------------------------------------------------------------------------------------


def test_the_address_is_written_down_while_it_answers(board: Board, history: History, tmp_path: Path) -> None:
    app = create_app(board, history, evidence=tmp_path, acknowledge=lambda *_: ALERT, label=lambda *_: ALERT)
    file = tmp_path / "page.url"
    server = PageServer(app, bind="127.0.0.1:0", url_file=file)
    url = server.start()
    assert file.read_text() == url + "\n"
    assert httpx.get(f"{url}/healthz", trust_env=False).status_code == 200
    server.stop()
    assert not file.exists()


@pytest.mark.parametrize(
    ("bind", "says"),
    [("127.0.0.1:99999", "no port 99999"), ("203.0.113.7:0", "name an address of this machine")],
)
def test_an_address_that_is_none(board: Board, history: History, tmp_path: Path, bind: str, says: str) -> None:
    app = create_app(board, history, evidence=tmp_path, acknowledge=lambda *_: ALERT, label=lambda *_: ALERT)
    with pytest.raises(PageError, match=says):
        PageServer(app, bind=bind, url_file=tmp_path / "page.url").start()


def test_a_port_in_use(board: Board, history: History, tmp_path: Path) -> None:
    app = create_app(board, history, evidence=tmp_path, acknowledge=lambda *_: ALERT, label=lambda *_: ALERT)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        bind = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(PageError, match="another program serves there: stop it, or let") as caught:
            PageServer(app, bind=bind, url_file=tmp_path / "page.url").start()
    assert bind in str(caught.value)
    assert not (tmp_path / "page.url").exists()
