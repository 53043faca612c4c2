"""The JSON API and the pictures: what the page shows, for programs."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException, Query, Request, Response
from fastapi import Path as Part
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from alerts.accounts import Access, Visitor
from alerts.board import Board
from alerts.config import PageConfig
from alerts.feedback import Feedback, estimate
from alerts.gate import Gate
from alerts.pages.login import add_login
from alerts.period import look_back
from storage.errors import StorageError, StorageFull, StoreUnavailable
from storage.history import History
from storage.labels import Escape, Labels
from storage.records import Alert, Label, LineState

Acknowledge = Callable[[str, str], Alert]
"""Called with an alert's id and a person's name. Raises StorageError when there is no such alert."""
GiveLabel = Callable[[str, Label, str, str], Alert]
"""Called with an alert's id, what it was, a person's name and a note. Raises StorageError as above."""

_PICTURES = {".jpg": "image/jpeg", ".npz": "application/octet-stream"}
_NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"
_WEEK_S = 7 * 86_400
LineName = Annotated[str, Part(pattern=_NAME)]
_TEXT = r"^[^\x00]*$"  # PostgreSQL keeps no text with a zero byte in it
Note = Annotated[str, Field(max_length=1000, pattern=_TEXT)]


def _visitor(request: Request) -> Visitor:
    """Who asks; the gate lets nobody else through."""
    visitor: Visitor = request.state.visitor
    return visitor


Asking = Annotated[Visitor, Depends(_visitor)]


class Who(BaseModel):
    """Body of an acknowledgement; whoever is logged in signs with the name of the account instead."""

    model_config = ConfigDict(extra="forbid")
    by: Annotated[str, Field(min_length=1, max_length=100, pattern=_TEXT)] = "operator"


class Said(Who):
    """Body of a label."""

    label: Label
    note: Note = ""


class Missed(Who):
    """Body of a defect that passed and was found later."""

    line: Annotated[str, Field(pattern=_NAME)]
    captured_ns: Annotated[int, Field(ge=0, lt=2**63)]
    part: Annotated[str, Field(max_length=200, pattern=_TEXT)] | None = None
    note: Note = ""


def create_app(
    board: Board,
    history: History,
    *,
    evidence: Path,
    acknowledge: Acknowledge,
    label: GiveLabel,
    access: Access | None = None,
) -> FastAPI:
    """Build the API, behind the gate; what is added to the app later is behind it too.

    Args:
        board: this moment.
        history: what happened.
        evidence: folder of the pictures.
        acknowledge: notes that somebody has seen an alert.
        label: notes what somebody says of an alert.
        access: who may look and act; None: as on a page that only this machine reaches.
    """
    access = access or Access(history.database, PageConfig())
    # No docs pages: they load their scripts from elsewhere.
    app = FastAPI(title="linewatch", docs_url=None, redoc_url=None)
    app.add_middleware(Gate, access=access)
    app.exception_handler(StoreUnavailable)(_later)
    app.exception_handler(StorageFull)(_later)
    app.exception_handler(RequestValidationError)(_wrong)

    @app.get("/healthz")
    def healthz(request: Request) -> JSONResponse:
        ailments = board.ailments()
        said: dict[str, Any] = {"status": "trouble" if ailments else "ok"}
        if request.state.visitor is not None or request.state.local:  # what ails it is not for strangers
            said |= {"ailments": ailments, "undelivered": history.undelivered()}
        return JSONResponse(said, status_code=503 if ailments else 200)

    @app.get("/api/lines")
    def lines() -> list[dict[str, Any]]:
        return [_line(view.state) for view in board.view().lines]

    @app.get("/api/alerts")
    def alerts(
        open: bool | None = None,  # noqa: A002 - the name in the URL
        line: Annotated[str | None, Query(pattern=_TEXT)] = None,
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
    def acknowledge_alert(alert_id: str, asking: Asking, who: Who | None = None) -> Alert:
        return _found(lambda: acknowledge(alert_id, asking.signs((who or Who()).by)))

    @app.post("/api/alerts/{alert_id:path}/label")
    def label_alert(alert_id: str, said: Said, asking: Asking) -> Alert:
        return _found(lambda: label(alert_id, said.label, asking.signs(said.by), said.note))

    add_login(app, access)
    _add_feedback(app, board, history)
    _add_pictures(app, evidence)
    return app


def _add_feedback(app: FastAPI, board: Board, history: History) -> None:
    def known(line: str) -> str:
        if line not in {view.state.line for view in board.view().lines}:
            raise HTTPException(404, f"no line {line!r}")
        return line

    @app.get("/api/lines/{line}/feedback")
    def feedback(
        line: LineName,
        since_s: Annotated[float, Query(gt=0, le=10 * 365 * 86_400)] = _WEEK_S,
        losing: Annotated[int, Query(ge=0, le=1000)] = 0,
    ) -> Feedback:
        now_ns = time.time_ns()
        record = look_back(history, known(line), since_ns=now_ns - round(since_s * 1e9), until_ns=now_ns)
        return estimate(record, losing=losing)

    @app.post("/api/escapes")
    def note_escape(missed: Missed, asking: Asking) -> Escape:
        told = missed.model_dump() | {"line": known(missed.line), "by": asking.signs(missed.by)}
        escape = Escape(**told, noted_ns=time.time_ns())
        Labels(history).note_escape(escape)
        return escape


def _found(change: Callable[[], Alert]) -> Alert:
    """Change an alert; what is wrong and will not pass by itself is that there is none."""
    try:
        return change()
    except (StoreUnavailable, StorageFull):
        raise
    except StorageError as error:
        raise HTTPException(404, str(error)) from error


def _add_pictures(app: FastAPI, evidence: Path) -> None:
    @app.get("/api/latest/{line}.jpg")
    def latest(line: LineName) -> Response:
        return _picture(evidence / "latest", f"{line}.jpg")

    @app.get("/evidence/{path:path}")
    def picture(path: str) -> Response:
        return _picture(evidence, path)


def _line(state: LineState) -> dict[str, Any]:
    return {**state.model_dump(mode="json"), "open": state.open}


def _picture(folder: Path, path: str) -> Response:
    """Serve a picture that really lies in the folder, whatever the path says.

    Read as a whole: while it is sent another one may take its place, or retention take it away.
    """
    try:
        root = folder.resolve()
        file = (root / path).resolve()
        allowed = file.is_relative_to(root) and file.suffix in _PICTURES
        content = file.read_bytes() if allowed else None
    except (OSError, ValueError):  # not there, too long, or a zero byte
        content = None
    if content is None:
        raise HTTPException(404, "no such picture")
    return Response(content, media_type=_PICTURES[file.suffix], headers={"Cache-Control": "private, no-cache"})


def _wrong(_request: Request, error: Exception) -> Response:
    """Say what is wrong with a request without quoting it: what was sent need not even be Unicode."""
    problems = error.errors() if isinstance(error, RequestValidationError) else []
    said = [{name: problem[name] for name in ("type", "loc", "msg")} for problem in problems]
    return Response(json.dumps({"detail": said}), 422, media_type="application/json")


def _later(_request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": str(error)}, status_code=503)
