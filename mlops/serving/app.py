"""The prediction server: POST /v1/predict, health, readiness and docs over one followed release."""

from __future__ import annotations

import contextlib
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from anyio import to_thread
from fastapi import FastAPI, HTTPException
from fastapi.exception_handlers import http_exception_handler
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field, StrictStr
from starlette.exceptions import HTTPException as AnyHTTPException
from starlette.requests import Request as HTTPRequest

from mlops import __version__
from mlops.errors import EvergreenError, UserError
from mlops.serving.queueing import Expired, Full, Unready
from mlops.serving.releases import Loader
from mlops.serving.service import Service

log = logging.getLogger("evergreen")

MAX_INPUTS, MAX_CHARACTERS = 1024, 1_000_000
DEADLINE = 30.0  # seconds
Text = Annotated[StrictStr, Field(max_length=MAX_CHARACTERS)]


class Pair(BaseModel):
    """Two texts that are judged together."""

    model_config = ConfigDict(extra="forbid")
    text_a: Text
    text_b: Text


class Request(BaseModel):
    """Texts, pairs of texts, or lists of tokens, as the model's task is asked."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"inputs": ["Shares rose after the merger was announced."]}]}
    )
    inputs: Annotated[list[Text | Pair | list[Text]], Field(min_length=1, max_length=MAX_INPUTS)]


class Model(BaseModel):
    """The release that answered."""

    name: str
    version: str
    variant: str


class Response(BaseModel):
    """One prediction per input, in order. truncated: whether the model read only the beginning of an input.

    text-classification and pairs: {label, score, scores}; with several labels {labels, scores}; ordinal also {position};
    token-classification: a list of {start, end, type, text, score}; text-ranking: {score}.
    """

    model: Model
    predictions: list[dict[str, Any] | list[dict[str, Any]]]
    truncated: list[bool]


def create_app(loader: Loader) -> FastAPI:
    """The application; the loader is started and stopped with it."""
    service = Service(lambda job: loader.served, lambda: loader.problem)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await to_thread.run_sync(loader.start)
        service.start()
        yield
        await to_thread.run_sync(service.stop)
        await to_thread.run_sync(loader.stop)

    app = FastAPI(title=f"Evergreen: {loader.name}", version=__version__, lifespan=lifespan)

    app.add_exception_handler(RequestValidationError, _refuse)
    app.add_exception_handler(AnyHTTPException, _unreadable)

    @app.post("/v1/predict")
    async def predict(request: Request) -> Response:
        asked = [each.model_dump() if isinstance(each, Pair) else each for each in request.inputs]
        try:
            job = await service.ask(asked, DEADLINE)
        except UserError as error:
            fault = {"loc": ["body", "inputs"], "msg": str(error), "type": "wrong_input"}
            raise HTTPException(422, [fault]) from error
        except Full as error:
            raise HTTPException(429, str(error), {"Retry-After": str(error.seconds)}) from error
        except Expired as error:
            raise HTTPException(504, str(error)) from error
        except Unready as error:
            raise HTTPException(503, str(error)) from error
        assert job.served is not None
        model = Model(name=job.served.name, version=job.served.version, variant=job.served.variant)
        return Response(model=model, predictions=job.answers, truncated=job.truncated)

    @app.get("/healthz")
    def healthz() -> dict[str, str]:
        return {"status": "alive"}

    @app.get("/readyz", response_model=None)
    def readyz() -> JSONResponse | dict[str, Any]:
        served = loader.served
        if served is None:
            return JSONResponse({"status": "not ready", "reason": loader.problem}, 503)
        model = {"name": served.name, "version": served.version, "variant": served.variant}
        return {"status": "ready", "model": model, "problem": loader.problem}

    return app


async def _refuse(_: Any, error: Exception) -> JSONResponse:
    """422 with a reason per fault. What was sent is shown cut: it may be huge, or no text at all."""
    assert isinstance(error, RequestValidationError)
    faults = [
        {"loc": list(fault["loc"]), "msg": fault["msg"], "type": fault["type"], "found": repr(fault.get("input"))[:100]}
        for fault in error.errors()
    ]
    return JSONResponse({"detail": faults}, 422)


async def _unreadable(request: HTTPRequest, error: Exception) -> Any:
    """FastAPI answers a body that is no text, or too deep, with 400; here every bad body is 422."""
    assert isinstance(error, AnyHTTPException)
    if error.status_code != 400:
        return await http_exception_handler(request, error)
    fault = {"loc": ["body"], "msg": f"{error.detail}; allowed is JSON in UTF-8", "type": "json_invalid"}
    return JSONResponse({"detail": [fault]}, 422)


def serve(name: str, alias: str = "champion", port: int = 8080, host: str = "127.0.0.1") -> None:
    """Serves until SIGINT or SIGTERM; logs to stderr. UserError where the address is taken or is none of this machine."""
    import os

    import uvicorn

    try:
        # Before anything is loaded; left to uvicorn, a taken port is a log line and an exit code of its own.
        listening = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise UserError(f"cannot listen on {host}:{port}: {error.strerror or error}; name another --port") from error

    # MLflow's own default tries for minutes: a server whose registry is gone has a last good release to answer with.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    log.info("serving %s@%s on http://%s:%s (docs at /docs)", name, alias, host, port)
    with listening:
        settings = uvicorn.Config(create_app(Loader(name, alias)), host=host, port=port, log_level="warning")
        server = uvicorn.Server(settings)
        with contextlib.suppress(KeyboardInterrupt):
            server.run(sockets=[listening])
            if not server.started:
                raise EvergreenError(f"the server of {name} did not start; the lines above say why")
