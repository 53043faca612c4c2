"""Logging in and out: a page without scripts, two addresses to post to, and one that says who is logged in."""

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs

from anyio import to_thread
from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from jinja2 import Environment
from markupsafe import Markup

from alerts.accounts import Access, TooOften, Visitor
from alerts.gate import LOGIN, LOGOUT, cookie_name, is_https
from alerts.origin import local_path
from alerts.pages.icon import ICON, ICON_URL

_HERE = Path(__file__).parent
_STYLE = "".join(_HERE.joinpath(name).read_text(encoding="utf-8") for name in ("colours.css", "login.css"))
_PAGE = Environment(autoescape=True).from_string(_HERE.joinpath("login.html").read_text(encoding="utf-8"))
# Nothing but its own style, by its hash, and its icon: no script runs here, wherever it might come from.
_POLICY = (
    f"default-src 'none'; style-src 'sha256-{base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()}'; "
    "img-src data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_WAITING = 8
"""Logins that wait for their turn; more are turned away, because each hash takes a core."""


def add_login(app: FastAPI, access: Access) -> None:
    """Serve `/login`, `/logout` and `/session`, behind the gate."""
    queue = _Queue()

    @app.get(LOGIN, include_in_schema=False)
    def ask(request: Request) -> Response:
        query = request.query_params
        there = local_path(query.get("next"))
        if _visitor(request) is not None:
            return RedirectResponse(there, 303)
        said = "Your login has ended. Log in again to go on." if "ended" in query else ""
        return _page(access, _Form(there=there), said=said)

    @app.post(LOGIN, include_in_schema=False)
    async def log_in(request: Request) -> Response:
        form = _Form.read(await request.body())
        async with queue.turn() as mine:
            if not mine:
                return _page(access, form, said="Many are logging in: try again.", status=429)
            return await to_thread.run_sync(_log_in, access, request, form)

    @app.post(LOGOUT, include_in_schema=False)
    def log_out(request: Request) -> Response:
        visitor = _visitor(request)
        if visitor is not None:
            access.log_out(visitor)
        answer = RedirectResponse(LOGIN, 303)
        _set_cookie(answer, request, "", max_age=0)
        return answer

    @app.get("/session")
    def who(request: Request) -> dict[str, Any]:
        """Who is logged in: name and role, or null where there are no accounts."""
        visitor = _visitor(request)
        account = None if visitor is None else visitor.account
        return {"name": account and account.name, "role": account and account.role.value}


@dataclass(frozen=True, slots=True)
class _Form:
    """What was typed, and where to go afterwards."""

    name: str = ""
    password: str = ""
    there: str = "/"

    @classmethod
    def read(cls, body: bytes) -> Self:
        """Read a form, bounded by the gate. Raises HTTPException when it is none."""
        try:
            fields = parse_qs(body.decode("utf-8"), keep_blank_values=True, max_num_fields=10)
        except ValueError as error:
            raise HTTPException(400, "no form") from error
        name, password, there = (fields.get(key, [""])[0] for key in ("name", "password", "next"))
        return cls(name, password, local_path(there))


class _Queue:
    """One login at a time: each takes a core, which the cameras want too."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._waiting = 0

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[bool]:
        """Wait for a turn; False: too many do."""
        if self._waiting >= _WAITING:
            yield False
            return
        self._waiting += 1
        try:
            async with self._lock:
                yield True
        finally:
            self._waiting -= 1


def _log_in(access: Access, request: Request, form: _Form) -> Response:
    address = request.client.host if request.client else ""
    before = request.cookies.get(cookie_name(request.scope))
    try:
        token = access.log_in(form.name, form.password, address=address, instead_of=before)
    except TooOften as refused:
        page = _page(access, form, said=f"Too many wrong passwords: wait {refused.wait_s} s.", status=429)
        page.headers["Retry-After"] = str(refused.wait_s)
        return page
    if token is None:
        return _page(access, form, said="No account has this name and password.", status=401)
    answer = RedirectResponse(form.there, 303)
    _set_cookie(answer, request, token)
    return answer


def _visitor(request: Request) -> Visitor | None:
    found: Visitor | None = request.state.visitor
    return found


def _set_cookie(answer: Response, request: Request, value: str, *, max_age: int | None = None) -> None:
    """Keep the token where no script reads it and no other site's request carries it; a closed browser forgets it."""
    answer.set_cookie(
        cookie_name(request.scope),
        value,
        max_age=max_age,
        path="/",
        httponly=True,
        secure=is_https(request.scope),
        samesite="strict",
    )


def _page(access: Access, form: _Form, *, said: str = "", status: int = 200) -> HTMLResponse:
    text = _PAGE.render(
        wanted=access.wanted(),
        next=form.there,
        name=form.name[:64],
        said=said,
        bad=status != 200,
        style=Markup(_STYLE),  # noqa: S704 - our own file
        icon=Markup(ICON),  # noqa: S704 - our own drawing
        icon_url=ICON_URL,
    )
    return HTMLResponse(text, status, headers={"Content-Security-Policy": _POLICY})
