"""The gate before everything that is served: page, its scripts and websocket, API, pictures, reports.

::

    request ─> called by a name of ours? ─> from our own page? ─> who is it? ─> may they? ─> body bounded ─> app
                     421                         403            401 / login       403           413

What is not in the list of open addresses is closed, also what will be added one day. A websocket is looked at again
each second: it ends when its session does.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import quote

import structlog
from anyio import to_thread
from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from alerts.accounts import Access, Visitor, is_local
from alerts.headers import with_headers
from alerts.origin import answers_to, foreign, host_of, is_safe
from storage.errors import StorageError

log = structlog.get_logger()

LOGIN, LOGOUT, HEALTH, METRICS = "/login", "/logout", "/healthz", "/metrics"
_OPEN = frozenset({LOGIN, HEALTH})
"""For strangers too."""
_OWN_RULES = frozenset({LOGIN, LOGOUT})
"""Changes something, and a viewer may."""
_SOCKET = "/_nicegui_ws/"
"""The page's own channel; what is pressed is looked at where it is handled."""
_BODY_BYTES, _LOGIN_BYTES, _SOCKET_BYTES = 64 * 2**10, 8 * 2**10, 2**20
_LOOK_S = 1.0
_BLIND_S = 60.0
_POLICY_VIOLATION = 1008
_FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip", "via")


class Gate:
    """ASGI middleware. Leaves `visitor` (Visitor or None) and `local` (bool) in the scope's state.

    Args:
        app: what is behind it.
        access: who may.
    """

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let one request through, or answer it."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        if scope["type"] == "http":
            send = with_headers(send)
        asked = _Asked(scope, self._access)
        refusal = await self._refusal(asked)
        if scope["type"] == "websocket":
            await self._websocket(asked, refusal, receive, send)
            return
        if refusal is not None:
            await refusal(scope, receive, send)
            return
        body = await _bounded(receive, asked.limit, asked.headers)
        if body is None:
            await _said(413, f"the body is longer than {asked.limit} bytes, or incomplete")(scope, receive, send)
            return
        await self._app(scope, body, send)

    async def _refusal(self, asked: "_Asked") -> Response | None:
        """Answer instead of the app, or None: it may go on."""
        try:
            asked.visitor = await to_thread.run_sync(asked.look)
        except StorageError as error:
            log.warning("nobody is let in: the accounts cannot be read", because=str(error))
            return None if asked.path == HEALTH else _said(503, f"accounts cannot be read: {error}")
        program = asked.visitor is not None and asked.visitor.token is not None
        if not program:
            stranger = asked.misdirected() or asked.forged()
            if stranger is not None:
                return stranger
        if asked.visitor is None:
            return None if asked.is_open else asked.who_are_you()
        acts = not is_safe(asked.method) and asked.path not in _OWN_RULES and not asked.path.startswith(_SOCKET)
        if acts and not asked.visitor.may_act:
            return _said(403, "this account may look, not act: its role is viewer")
        if acts or asked.headers.get("sec-fetch-mode") == "navigate":
            await _noted(self._access, asked.visitor)
        return None

    async def _websocket(self, asked: "_Asked", refusal: Response | None, receive: Receive, send: Send) -> None:
        if refusal is not None or asked.visitor is None:
            await receive()  # the request to connect
            await send({"type": "websocket.close", "code": _POLICY_VIOLATION})  # before it is accepted: HTTP 403
            return
        await _Watched(self._access, asked.visitor, receive, send).run(
            lambda incoming, outgoing: self._app(asked.scope, incoming, outgoing)
        )


class _Asked:
    """One request, with what the gate wants to know of it."""

    def __init__(self, scope: Scope, access: Access) -> None:
        self.scope = scope
        self._access = access
        self._connection = HTTPConnection(scope)
        self.headers: Headers = self._connection.headers
        self.path: str = scope["path"]
        self.method: str = scope.get("method", "GET")
        client, server = scope.get("client") or ("", 0), scope.get("server") or ("", 0)
        self.local = is_local(
            client=client[0],
            server=server[0],
            forwarded=any(name in self.headers for name in _FORWARDED),
            proxies=access.config.proxies,
        )
        scope.setdefault("state", {}).update(visitor=None, local=self.local)

    @property
    def visitor(self) -> Visitor | None:
        found: Visitor | None = self.scope["state"]["visitor"]
        return found

    @visitor.setter
    def visitor(self, visitor: Visitor | None) -> None:
        self.scope["state"]["visitor"] = visitor

    @property
    def is_open(self) -> bool:
        if self.scope["type"] != "http":
            return False
        here = self.local and answers_to(host_of(self.headers), names=self._access.config.hosts)
        return self.path in _OPEN or (self.path == METRICS and here)

    @property
    def limit(self) -> int:
        if self.path.startswith(_SOCKET):
            return _SOCKET_BYTES
        return _LOGIN_BYTES if self.path == LOGIN else _BODY_BYTES

    def look(self) -> Visitor | None:
        """Ask the database who it is."""
        kind, _, token = self.headers.get("authorization", "").partition(" ")
        cookie = self._connection.cookies.get(cookie_name(self.scope))
        return self._access.visitor(session=cookie, token=token.strip() if kind.lower() == "bearer" else None)

    def misdirected(self) -> Response | None:
        """Refuse a name that is not ours. A cookie belongs to one name: who is logged in called us by a right one."""
        logged_in = self.visitor is not None and self.visitor.account is not None
        host, names = host_of(self.headers), self._access.config.hosts
        if self.path == HEALTH or answers_to(host, names=names) or (not names and (logged_in or self.visitor is None)):
            return None
        return _said(421, f"this page is not known as {host[:100]!r}: add it to `alerts.page.hosts`")

    def forged(self) -> Response | None:
        """Refuse what another site's page sends in somebody's name."""
        if self.scope["type"] == "http" and is_safe(self.method):
            return None
        other = foreign(self.headers)
        return None if other is None else _said(403, f"{other} may not do this")

    def who_are_you(self) -> Response:
        """Send a person to the login page; tell a program."""
        if is_safe(self.method) and "text/html" in self.headers.get("accept", ""):
            if self.headers.get("sec-fetch-site") in ("cross-site", "same-site"):
                # A link on another site: the cookie stays at home the first time. Our own page asks again, with it.
                return HTMLResponse('<!doctype html><meta http-equiv="refresh" content="0"><title>linewatch</title>')
            query = self.scope.get("query_string", b"").decode("latin-1")
            there = quote(self.path + (f"?{query}" if query else ""), safe="")
            return RedirectResponse(LOGIN if there == quote("/", safe="") else f"{LOGIN}?next={there}", 303)
        said = _said(401, "log in, or send a token: Authorization: Bearer ...")
        said.headers["WWW-Authenticate"] = "Bearer"
        return said


class _Watched:
    """A websocket that ends with its session. A message that tells of a press keeps the session from being idle."""

    def __init__(self, access: Access, visitor: Visitor, receive: Receive, send: Send) -> None:
        self._access, self._visitor = access, visitor
        self._receive, self._send = receive, send
        self._over = asyncio.Event()

    async def run(self, serve: Callable[[Receive, Send], Awaitable[None]]) -> None:
        watch = asyncio.create_task(self._watch())
        try:
            await serve(self._incoming, self._outgoing)
        finally:
            watch.cancel()

    async def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        seen = loop.time()
        while True:
            await asyncio.sleep(_LOOK_S)
            try:
                if await to_thread.run_sync(self._access.still, self._visitor) is None:
                    break
                seen = loop.time()
            except StorageError:  # the page says so itself; after a while nobody can be trusted any more
                if loop.time() - seen > _BLIND_S:
                    break
        self._over.set()

    async def _incoming(self) -> Message:
        next_one = asyncio.ensure_future(self._receive())
        over = asyncio.ensure_future(self._over.wait())
        try:
            await asyncio.wait({next_one, over}, return_when=asyncio.FIRST_COMPLETED)
            if not self._over.is_set():
                message: Message = next_one.result()
                if _is_press(message):
                    await _noted(self._access, self._visitor)
                return message
        finally:
            over.cancel()
            next_one.cancel()
        await self._send({"type": "websocket.close", "code": _POLICY_VIOLATION})
        return {"type": "websocket.disconnect", "code": _POLICY_VIOLATION}

    async def _outgoing(self, message: Message) -> None:
        if not self._over.is_set():
            await self._send(message)


def cookie_name(scope: Scope) -> str:
    """Name of the session's cookie; over https one that a browser takes from this very host alone."""
    return "__Host-linewatch" if is_https(scope) else "linewatch"


def is_https(scope: Scope) -> bool:
    """Whether it came over TLS, as far as the server or a trusted proxy says."""
    return scope.get("scheme") in ("https", "wss")


def _is_press(message: Message) -> bool:
    text: Any = message.get("text")
    return isinstance(text, str) and text.startswith('42["event"')


async def _noted(access: Access, visitor: Visitor) -> None:
    """Keep a session from being idle; if that cannot be written now, it ends a minute earlier."""
    try:
        await to_thread.run_sync(access.touch, visitor)
    except StorageError as error:
        log.warning("a session's use was not noted", because=str(error))


async def _bounded(receive: Receive, limit: int, headers: Headers) -> Receive | None:
    """Read a body up to a limit; None: it is longer. What comes later, the end of a connection, is handed on."""
    said = headers.get("content-length", "0")
    if not said.isdecimal() or int(said) > limit:
        return None
    if "content-length" not in headers and "transfer-encoding" not in headers:
        return receive  # there is none (RFC 9112, 6.3)
    body, more = bytearray(), True
    while more:
        message = await receive()
        if message["type"] != "http.request":  # gone half-way: what came so far is not what was meant
            return None
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > limit:
            return None
    first: list[Message] = [{"type": "http.request", "body": bytes(body), "more_body": False}]

    async def again() -> Message:
        return first.pop() if first else await receive()

    return again


def _said(status: int, detail: str) -> Response:
    if status in (421, 503):
        return PlainTextResponse(f"linewatch: {detail}\n", status)
    return JSONResponse({"detail": detail}, status)
