"""The report as a page of the operators' server: `/report?shift=last`, or `?since=8h`, and `&line=`."""

import time as clock
from collections.abc import Callable, Sequence
from datetime import time
from pathlib import Path
from typing import Annotated

from fastapi import FastAPI, HTTPException, Query
from fastapi.responses import HTMLResponse

from alerts.report.gather import gather
from alerts.report.period import choose
from alerts.report.pictures import from_store, inlined
from alerts.report.render import WORST, render
from storage.history import History


def add_report(
    app: FastAPI,
    history: History,
    *,
    site: str,
    lines: Sequence[str],
    shifts: Sequence[time],
    evidence: Path,
    now_ns: Callable[[], int] = clock.time_ns,
) -> None:
    """Serve reports: each stands alone, so that what a browser saves is complete.

    Args:
        app: gets one more address, `/report`.
        history: what happened.
        site: name of the place, for people.
        lines: reported on unless a request names others, with those that have left a trace.
        shifts: local times of day at which shifts begin.
        evidence: folder of the pictures.
        now_ns: wall clock, nanoseconds since the epoch.
    """

    @app.get("/report", response_class=HTMLResponse)
    def report(
        line: Annotated[list[str] | None, Query()] = None,
        shift: str | None = None,
        since: str | None = None,
        until: str | None = None,
    ) -> HTMLResponse:
        now = now_ns()
        try:
            period = choose(shift, since, until, now_ns=now, shifts=shifts)
        except ValueError as error:
            raise HTTPException(400, str(error)) from error
        made = gather(history, site=site, lines=line or lines, others=not line, period=period, made_ns=now)
        page = render(made, pictures=inlined(from_store(evidence), count=WORST))
        return HTMLResponse(page, headers={"Cache-Control": "no-cache"})
