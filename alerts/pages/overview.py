"""The operators' page: every line and every alert at a glance, kept current without a reload."""

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from fastapi import FastAPI
from nicegui import run, ui

from alerts.accounts import Access, Visitor
from alerts.api import Acknowledge, GiveLabel
from alerts.board import Board, View
from alerts.pages.alertrow import AlertRow
from alerts.pages.icon import ICON
from alerts.pages.linecard import LineCard, Picture
from storage.accounts import Account
from storage.errors import StorageError
from storage.records import Alert, Label
from storage.roles import Role

_EVERY_S = 1.0
_ANSWER_S = 5.0
_PRESS = "#1f5a99"  # of buttons; white text on it is readable (contrast 7:1)
_HERE = Path(__file__).parent
_STYLE = "".join(_HERE.joinpath(name).read_text(encoding="utf-8") for name in ("colours.css", "style.css"))
# When the connection breaks because the login has ended, the page must not go on showing what was: log in again.
_WATCH = """
setInterval(() => {
  if (!window.socket || window.socket.connected) return;
  fetch("/session").then(answer => { if (answer.status === 401) location.assign("/login?ended"); }, () => {});
}, 1000);
"""


@dataclass(frozen=True, slots=True)
class Scene:
    """What the page shows, with the pictures that are there to be shown."""

    view: View
    lines: dict[str, Picture]
    alerts: dict[str, Picture]


def mount(
    app: FastAPI, board: Board, *, evidence: Path, acknowledge: Acknowledge, label: GiveLabel, access: Access
) -> None:
    """Serve the page at `/` of an app. Once per process: NiceGUI keeps one page tree.

    Args:
        app: with the API, which serves the pictures.
        board: this moment.
        evidence: folder of the pictures.
        acknowledge: notes that somebody has seen an alert.
        label: notes what somebody says of an alert.
        access: who may look and act.
    """

    async def root() -> None:
        visitor: Visitor = ui.context.client.request.state.visitor
        sitter = _Sitter(access, visitor)
        page = _Page(lambda: run.io_bound(_look, board, evidence), acknowledge, label, sitter)
        # Filled once the browser is there: who only asks and leaves costs little, and under load no page comes too late
        # for NiceGUI, which answers 500 after three seconds.
        client = ui.context.client
        await client.connected()
        if client.is_deleted:
            return
        await page.refresh()
        ui.timer(_EVERY_S, page.refresh)
        await page.recall_name()

    ui.run_with(
        app,
        root=root,
        title="linewatch",
        favicon=ICON,
        dark=None,
        tailwind=False,
        show_welcome_message=False,
        reconnect_timeout=10.0,
    )


class _Sitter:
    """Who sits before a page. A page may outlive its login, so it is asked again whenever something is pressed."""

    def __init__(self, access: Access, visitor: Visitor) -> None:
        self._access = access
        self.visitor = visitor

    def sign(self, by: str) -> str:
        """In whose name something is done now.

        Raises:
            NotAllowed: it may not be done, or not any more.
        """
        now = self._access.still(self.visitor)
        if now is None:
            raise NotAllowed("Your login has ended: log in again.")
        if not now.may_act:
            raise NotAllowed("Your account may look, not act.")
        return now.signs(by)


class NotAllowed(Exception):  # noqa: N818 - a state of the world, not a mistake
    """What was pressed is not for who pressed it; one sentence for them."""


class _Page:
    """One browser's page."""

    def __init__(
        self,
        look: Callable[[], Awaitable[Scene | None]],
        acknowledge: Acknowledge,
        label: GiveLabel,
        sitter: _Sitter,
    ) -> None:
        self._look = look
        self._acknowledge = acknowledge
        self._label = label
        self._sitter = sitter
        self._cards: dict[str, LineCard] = {}
        self._rows: dict[str, AlertRow] = {}
        ui.colors(primary=_PRESS)
        ui.add_css(_STYLE)
        ui.add_body_html(f"<script>{_WATCH}</script>")
        ui.query(".nicegui-content").classes("lw-page")
        with ui.element("header").classes("lw-top"):
            with ui.element("div").classes("lw-brand"):
                ui.html(ICON, sanitize=False).classes("lw-logo")
                ui.label("linewatch")
            with ui.element("a").classes("lw-sum").props('href="#alerts"') as self._sum:
                self._sum_text = ui.label("")
            with ui.element("a").classes("lw-report").props('href="/report?shift=current" target="_blank"'):
                ui.icon("summarize")
                ui.label("Shift report")
            self._name: ui.input | None = None
            if sitter.visitor.account is not None:
                _show_account(sitter.visitor.account)
            else:
                self._name = ui.input("Your name", on_change=self._keep_name).props("dense outlined maxlength=100")
                self._name.classes("lw-name")
        with ui.element("div").classes("lw-trouble").props('role="alert"') as self._trouble:
            ui.icon("warning")
            self._trouble_text = ui.label("")
        with ui.element("main").classes("lw-main"):
            with ui.element("section").props('aria-label="Lines"'):
                ui.label("Lines").classes("lw-title")
                self._lines = ui.element("div").classes("lw-lines")
            with ui.element("section").props('aria-label="Alerts" id="alerts"'):
                ui.label("Alerts").classes("lw-title")
                self._alerts = ui.element("ul").classes("lw-alerts").props('aria-live="polite"')
                with ui.element("div").classes("lw-calm") as self._calm:
                    ui.icon("check_circle")
                    ui.label("No alerts so far.")
        for hidden in (self._trouble, self._calm):  # until there is something to say
            hidden.set_visibility(False)

    async def refresh(self) -> None:
        scene = await self._look()
        if scene is None:  # the service is ending
            return
        view = scene.view
        self._trouble.set_visibility(bool(view.trouble))
        self._trouble_text.set_text(" · ".join(view.trouble))
        self._show_sum(view)
        if [line.state.line for line in view.lines] != list(self._cards):
            self._lines.clear()
            with self._lines:
                self._cards = {line.state.line: LineCard(line.state.line) for line in view.lines}
        for line in view.lines:
            self._cards[line.state.line].update(line, scene.lines.get(line.state.line))
        self._calm.set_visibility(not view.alerts)
        if [alert.id for alert in view.alerts] != list(self._rows):
            self._alerts.clear()
            with self._alerts:
                self._rows = {alert.id: self._row(alert) for alert in view.alerts}
        for alert in view.alerts:
            self._rows[alert.id].update(alert, scene.alerts.get(alert.id))

    async def recall_name(self) -> None:
        """Ask the browser who sat here last."""
        if self._name is None:
            return
        await ui.context.client.connected()
        try:
            name = await ui.run_javascript('localStorage.getItem("linewatch.name")', timeout=_ANSWER_S)
        except TimeoutError:
            return  # the browser is slow or gone; a name can still be typed
        if name and not self._name.value:
            self._name.set_value(str(name)[:100])

    def _keep_name(self) -> None:
        name = json.dumps(self._typed)  # a JSON string is a JavaScript string, whatever it holds
        ui.run_javascript(f'localStorage.setItem("linewatch.name", {name})')

    @property
    def _typed(self) -> str:
        return "" if self._name is None else str(self._name.value or "").strip()

    def _show_sum(self, view: View) -> None:
        count = sum(alert.cleared_ns is None for alert in view.alerts)
        unseen = sum(alert.acknowledged_ns is None for alert in view.alerts)
        self._sum.props["data-tone"] = "bad" if count else "good"
        said = "all quiet" if not count else f"{count} open alert{'s' if count > 1 else ''}"
        self._sum_text.set_text(said + (f" · {unseen} not acknowledged" if unseen else ""))

    def _row(self, alert: Alert) -> AlertRow:
        async def seen() -> None:
            await self._change(lambda by: self._acknowledge(alert.id, by))

        async def labelled(label: Label) -> None:
            await self._change(lambda by: self._label(alert.id, label, by, ""))

        return AlertRow(alert, seen, labelled, acts=self._sitter.visitor.may_act)

    async def _change(self, change: Callable[[str], Alert]) -> None:
        """Change an alert in the name of who sits here, and show it."""
        try:
            await run.io_bound(self._signed, change, self._typed or "operator")
        except (StorageError, NotAllowed) as error:
            ui.notify(str(error), type="negative")
            return
        await self.refresh()

    def _signed(self, change: Callable[[str], Alert], by: str) -> Alert:
        return change(self._sitter.sign(by))


def _show_account(account: Account) -> None:
    """Say who is logged in, and let them out."""
    with ui.element("form").classes("lw-who").props('method="post" action="/logout"'):
        ui.icon("person")
        with ui.element("div"):
            ui.label(account.name).classes("lw-who-name")
            ui.label("may look" if account.role is Role.VIEWER else account.role.value).classes("lw-who-role")
        with ui.element("button").classes("lw-out").props('type="submit"'):
            ui.label("Log out")


def _look(board: Board, evidence: Path) -> Scene:
    """See the moment, and which of its pictures exist: pictures give way when the disk fills."""
    view = board.view()
    lines, alerts = dict[str, Picture](), dict[str, Picture]()
    for line in view.lines:
        name = line.state.line
        version = _version(evidence / "latest" / f"{name}.jpg")
        if version:
            lines[name] = Picture(f"/api/latest/{name}.jpg?v={version}")
    for alert in view.alerts:
        for folder in (alert.worst_evidence, alert.evidence):
            if folder and _version(evidence / folder / "heat.jpg"):
                alerts[alert.id] = Picture(f"/evidence/{folder}/heat.jpg")
                break
    return Scene(view, lines, alerts)


def _version(file: Path) -> int:
    """When a file was written, nanoseconds; 0 when it is not there."""
    try:
        return file.stat().st_mtime_ns
    except OSError:
        return 0
