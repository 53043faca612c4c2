"""The JSON API and the pictures: what the page shows, for programs."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from fastapi import FastAPI, HTTPException, Query, Request, Response
from fastapi import Path as Part
from fastapi.responses import FileResponse, JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from alerts.board import Board
from storage.errors import StorageError, StorageFull, StoreUnavailable
from storage.history import History
from storage.records import Alert, LineState

Acknowledge = Callable[[str, str], Alert]
"""Called with an alert's id and a person's name. Raises StorageError when there is no such alert."""

_PICTURES = {".jpg": "image/jpeg", ".npz": "application/octet-stream"}
# Everything the page needs comes from here; `unsafe-*` is what the page's own framework asks for.
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; font-src 'self' data:; connect-src 'self'; frame-ancestors 'none'"
)
LineName = Annotated[str, Part(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]


class Who(BaseModel):
    """Body of an acknowledgement."""

    model_config = ConfigDict(extra="forbid")
    by: Annotated[str, Field(min_length=1, max_length=100)] = "operator"


def create_app(board: Board, history: History, *, evidence: Path, acknowledge: Acknowledge) -> FastAPI:
    """Build the API.

    Args:
        board: this moment.
        history: what happened.
        evidence: folder of the pictures.
        acknowledge: notes that somebody has seen an alert.
    """
    # No docs pages: they load their scripts from elsewhere.
    app = FastAPI(title="linewatch", docs_url=None, redoc_url=None)
    app.middleware("http")(_guard)
    app.exception_handler(StoreUnavailable)(_later)
    app.exception_handler(StorageFull)(_later)

    @app.get("/healthz")
    def healthz() -> JSONResponse:
        ailments = board.ailments()
        return JSONResponse(
            {"status": "trouble" if ailments else "ok", "ailments": ailments, "undelivered": history.undelivered()},
            status_code=503 if ailments else 200,
        )

    @app.get("/api/lines")
    def lines() -> list[dict[str, Any]]:
        return [_line(view.state) for view in board.view().lines]

    @app.get("/api/alerts")
    def alerts(
        open: bool | None = None,  # noqa: A002 - the name in the URL
        line: str | None = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    ) -> list[Alert]:
        return history.alerts(open=open, line=line, limit=limit)

    @app.get("/api/alerts/{alert_id:path}")
    def alert(alert_id: str) -> Alert:
        found = history.alert(alert_id)
        if found is None:
            raise HTTPException(404, f"no alert {alert_id!r}")
        return found

    @app.post("/api/alerts/{alert_id:path}/acknowledge")
    def acknowledge_alert(alert_id: str, who: Who | None = None) -> Alert:
        try:
            return acknowledge(alert_id, (who or Who()).by)
        except (StoreUnavailable, StorageFull):
            raise
        except StorageError as error:
            raise HTTPException(404, str(error)) from error

    _add_pictures(app, evidence)
    return app


def _add_pictures(app: FastAPI, evidence: Path) -> None:
    @app.get("/api/latest/{line}.jpg")
    def latest(line: LineName) -> FileResponse:
        return _picture(evidence / "latest", f"{line}.jpg")

    @app.get("/evidence/{path:path}")
    def picture(path: str) -> FileResponse:
        return _picture(evidence, path)


def _line(state: LineState) -> dict[str, Any]:
    return {**state.model_dump(mode="json"), "open": state.open}


def _picture(folder: Path, path: str) -> FileResponse:
    """Serve a picture that really lies in the folder, whatever the path says."""
    try:
        root = folder.resolve()
        file = (root / path).resolve()
        allowed = file.is_relative_to(root) and file.suffix in _PICTURES and file.is_file()
    except (OSError, ValueError):  # too long, or a zero byte
        allowed = False
    if not allowed:
        raise HTTPException(404, "no such picture")
    return FileResponse(file, media_type=_PICTURES[file.suffix], headers={"Cache-Control": "no-cache"})


async def _guard(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    """Refuse what another site's page sends in an operator's name, and let our page load nothing from elsewhere."""
    origin = request.headers.get("origin")
    if (
        request.method not in ("GET", "HEAD", "OPTIONS")
        and origin
        and urlsplit(origin).netloc != request.headers.get("host")
    ):
        return JSONResponse({"detail": f"a page of {origin} may not do this"}, status_code=403)
    response = await call_next(request)
    response.headers.setdefault("Content-Security-Policy", _POLICY)
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    response.headers.setdefault("Referrer-Policy", "no-referrer")
    return response


def _later(_request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": str(error)}, status_code=503)
