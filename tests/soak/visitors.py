"""Those around the system under load: a webhook that takes alerts, and people who open the page and leave again."""

import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote

import httpx

_CONNECTIONS = 6
"""As many as a browser opens to one host."""
_REPORT_EVERY = 8
"""Visits from one report to the next: it is drawn anew each time."""
_PATIENCE_S = 30.0
_CROWD = 24
_NO_LIMITS = httpx.Limits(max_connections=None)


class Hook(ThreadingHTTPServer):
    """Takes every message; `taken` counts them."""

    daemon_threads = True
    taken = 0


class _Taking(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hook

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.taken += 1
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        pass


@contextmanager
def hook() -> Iterator[Hook]:
    """A webhook on a free port."""
    with Hook(("127.0.0.1", 0), _Taking) as server:
        thread = threading.Thread(target=server.serve_forever, name="hook", daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join(10)


class Visitor:
    """Opens the page as a browser does, looks at its pictures, acknowledges an alert, and closes it.

    It never opens the page's live connection: of all who come, those are the ones that a server forgets to forget.

    Attributes:
        answers: status codes that came back.
        failures: answers that say that something is wrong with the server, or that did not come.
    """

    def __init__(self, url_file: Path) -> None:
        self._url_file = url_file
        self._visits = 0
        self.answers: Counter[int] = Counter()
        self.failures: Counter[str] = Counter()

    def rush(self) -> None:
        """Come as a crowd: the pools of connections and threads fill to their bounds now, not by chance in mid-run."""
        base = self._url_file.read_text(encoding="utf-8").strip()
        paths = ["/api/alerts?limit=1000"] * (4 * _CROWD)
        with (
            httpx.Client(base_url=base, timeout=_PATIENCE_S, trust_env=False, limits=_NO_LIMITS) as client,
            ThreadPoolExecutor(_CROWD) as crowd,
        ):
            list(crowd.map(lambda path: self._ask(client, "GET", path), paths))

    def visit(self) -> None:
        """Come, look, leave: no connection stays open."""
        base = self._url_file.read_text(encoding="utf-8").strip()
        self._visits += 1
        with (
            httpx.Client(base_url=base, timeout=_PATIENCE_S, trust_env=False) as client,
            ThreadPoolExecutor(_CONNECTIONS) as browser,
        ):
            paths = ["/", "/api/lines", "/api/alerts", "/api/alerts?open=true", "/healthz", "/metrics"]
            paths += [f"/api/latest/{line}.jpg" for line in ("every", "patient", "freshest")]
            if self._visits % _REPORT_EVERY == 1:
                paths.append("/report?since=5min")  # as long in an hour as now
            answers = list(browser.map(lambda path: self._ask(client, "GET", path), paths))
            listed = answers[2]
            if listed is None or not listed.is_success:
                return
            pictures = [f"/evidence/{alert['evidence']}/heat.jpg" for alert in listed.json()[:12] if alert["evidence"]]
            list(browser.map(lambda path: self._ask(client, "GET", path), pictures))
            if listed.json():
                newest = quote(listed.json()[0]["id"], safe="/")
                self._ask(client, "POST", f"/api/alerts/{newest}/acknowledge")

    def _ask(self, client: httpx.Client, method: str, path: str) -> httpx.Response | None:
        try:
            answer = client.request(method, path)
        except httpx.HTTPError as error:
            self.failures[f"{path.partition('?')[0]}: {type(error).__name__}"] += 1
            return None
        self.answers[answer.status_code] += 1
        if answer.is_server_error:
            self.failures[f"{path.partition('?')[0]}: {answer.status_code}"] += 1
        return answer
