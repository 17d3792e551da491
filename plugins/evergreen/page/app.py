"""The routes of the page. Airflow leaves a plugin's routes open: all but the static files, which say nothing, ask who calls.

What the buttons do is not here: the browser calls Airflow's own API, with the rights that the person has there.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.core_api.security import GetUserDep, requires_access_dag
from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.staticfiles import StaticFiles

from evergreen.page import overview
from evergreen.page.overview import Overview

STATIC = Path(__file__).with_name("static")
_OWN = ("default-src 'self'", "style-src 'self'", "frame-ancestors 'self'", "base-uri 'none'", "form-action 'self'")
HEADERS = {
    "Content-Security-Policy": "; ".join(_OWN),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-cache",
}


def gathered(user: GetUserDep) -> Overview:
    """The pipelines whose DAG this person may read in Airflow."""
    readable = get_auth_manager().get_authorized_dag_ids(user=user, method="GET")
    return overview.gather(overview.folder(), readable)


may_read = requires_access_dag(method="GET")
# A route that is added here is behind Airflow's log-in without a word of its own.
data = APIRouter(prefix="/api", dependencies=[Depends(may_read)])


@data.get("/pipelines")
def pipelines(found: Annotated[Overview, Depends(gathered)], response: Response) -> Overview:
    """Every pipeline with its champion, versions and last retrain."""
    response.headers["Cache-Control"] = "no-store"
    return found


async def with_headers(request: Request, handle: Callable[[Request], Awaitable[Response]]) -> Response:
    """Nothing from another host, no script in the page, no frame but Airflow's own; answers are never kept unasked."""
    response = await handle(request)
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    return response


def page() -> FastAPI:
    """The app; without FastAPI's own pages, which would be open."""
    made = FastAPI(title="Evergreen", docs_url=None, redoc_url=None, openapi_url=None)
    made.middleware("http")(with_headers)
    made.include_router(data)
    made.mount("/", StaticFiles(directory=STATIC, html=True))
    return made


app = page()
