"""The routes of the prediction server, over one followed release. mlops.serving.guard stands before all of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from enum import Enum
from typing import Any

import orjson
from anyio import to_thread
from fastapi import FastAPI, Response
from starlette.requests import Request

from mlops import __version__
from mlops.serving import openinference, schemas
from mlops.serving.bodies import asked, deadline, feedback
from mlops.serving.describe import document, swagger
from mlops.serving.guard import Call, Guard
from mlops.serving.keys import Keys
from mlops.serving.metrics import CONTENT_TYPE, Metrics
from mlops.serving.options import Limits
from mlops.serving.predictions import PredictionLog
from mlops.serving.queueing import Job
from mlops.serving.refused import Refused
from mlops.serving.releases import Loader, Served
from mlops.serving.rollout import Rollout
from mlops.serving.service import Service
from mlops.serving.webhook import signed

_JSON = "application/json"
Ask = Callable[[Request, list[Any]], Awaitable[Job]]


def create_app(
    loader: Loader,
    limits: Limits | None = None,
    keys: Keys | None = None,
    done: Callable[[Call], None] = lambda call: None,
    service: Service | None = None,
    predictions: PredictionLog | None = None,
    rollout: Rollout | None = None,
) -> FastAPI:
    """The application; loader and service are started and stopped with it.

    keys: none where no key is needed. done: told of every request at its end. predictions: where answers and later labels
    are kept, none where nowhere. rollout: what tries a candidate beside the champion, `service`'s own.
    """
    limits, metrics = limits or Limits(), Metrics()
    service = service or Service(lambda job: loader.served, lambda: loader.problem, limits.waiting)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await to_thread.run_sync(loader.start)
        if rollout:
            await to_thread.run_sync(rollout.start)
        service.start()
        if predictions:
            predictions.start()
        yield
        await to_thread.run_sync(service.stop)
        if rollout:
            await to_thread.run_sync(rollout.stop)
        if predictions:
            await to_thread.run_sync(predictions.stop)
        await to_thread.run_sync(loader.stop)

    # Its own pages would be reached without passing the table of access.
    app = FastAPI(
        title=f"Evergreen: {loader.name}", version=__version__, lifespan=lifespan, docs_url=None, openapi_url=None
    )
    app.state.service, app.state.metrics = service, metrics

    def counted(call: Call) -> None:
        metrics.done(call)
        done(call)

    app.add_middleware(Guard, limits=limits, service=service, keys=keys, done=counted)
    ask = _asking(service, limits, predictions)
    _predict(app, ask, limits)
    _feedback(app, limits, predictions)
    _health(app, loader, service)
    _models(app, loader, ask, limits)
    _reload(app, loader, rollout)
    _pages(app, loader, keys is not None)
    _numbers(app, loader, service, metrics)
    if predictions:
        metrics.follow(predictions)
    if rollout:
        metrics.rollout(rollout.counts, service)
    return app


def call_of(request: Request) -> Call:
    """What the guard knows of a request."""
    call: Call = request.state.call
    return call


def answered(body: Any, status: int = 200) -> Response:
    """JSON, written by orjson: json.dumps and FastAPI's own check of an answer cost more than a short text's prediction."""
    return Response(orjson.dumps(body), status, media_type=_JSON)


def _asking(service: Service, limits: Limits, predictions: PredictionLog | None) -> Ask:
    async def ask(request: Request, items: list[Any]) -> Job:
        """The answered job, with what the logs tell of it."""
        call = call_of(request)
        seconds = deadline(request.headers.get("x-timeout-seconds"), limits, request.url.path)
        call.facts["items"] = len(items)
        sticky, pinned = request.headers.get("x-sticky-id", ""), "version" in request.path_params
        job = await service.ask(items, seconds, sticky, call.request_id, pinned)
        assert job.served is not None
        call.facts |= {"tokens": job.tokens, "version": job.served.version}
        if predictions:
            predictions.answered(call.request_id, job, job.role)
        return job

    return ask


def _feedback(app: FastAPI, limits: Limits, predictions: PredictionLog | None) -> None:
    @app.post("/v1/feedback", response_model=schemas.Accepted, tags=["predictions"], status_code=202)
    async def feedback_(request: Request) -> Response:
        """What would have been right for an input of an earlier request; its prediction is found by request_id and item."""
        call = call_of(request)
        told = feedback(call.body, limits, request.url.path)
        if predictions is None:
            raise Refused(503, "this server keeps no predictions; start it with --predictions hash or text")
        predictions.right(told.request_id, told.item, told.label, call.key.id if call.key else None)
        return answered({"status": "kept"}, 202)


def _predict(app: FastAPI, ask: Ask, limits: Limits) -> None:
    @app.post("/v1/predict", response_model=schemas.Response, summary="Predict", tags=["predictions"])
    async def predict(request: Request) -> Response:
        """Answers each input, in order, all by one release."""
        call = call_of(request)
        job = await ask(request, asked(call.body, limits, request.url.path))
        served = job.served
        assert served is not None
        return answered(
            {
                "model": {"name": served.name, "version": served.version, "variant": served.variant},
                "request_id": call.request_id,
                "predictions": job.answers,
                "truncated": job.truncated,
            }
        )


def _models(app: FastAPI, loader: Loader, ask: Ask, limits: Limits) -> None:
    """The Open Inference Protocol, for the served model with and without its version."""
    model = "/v2/models/{name}"
    tags: list[str | Enum] = ["open inference protocol"]

    def served_as(request: Request) -> Served:
        names = request.path_params
        return openinference.named(loader.served, names["name"], names.get("version"), loader.name)

    @app.get("/v2", tags=tags)
    async def server() -> Response:
        return answered({"name": "evergreen", "version": __version__, "extensions": []})

    @app.get(model, tags=tags)
    @app.get(f"{model}/versions/{{version}}", tags=tags)
    async def metadata(request: Request) -> Response:
        return answered(openinference.metadata(served_as(request)))

    @app.get(f"{model}/ready", tags=tags)
    @app.get(f"{model}/versions/{{version}}/ready", tags=tags)
    async def model_ready(request: Request) -> Response:
        return answered({"name": served_as(request).name, "ready": True})

    @app.post(f"{model}/infer", response_model=schemas.InferResponse, tags=tags)
    @app.post(f"{model}/versions/{{version}}/infer", response_model=schemas.InferResponse, tags=tags)
    async def infer(request: Request) -> Response:
        kind, call, path = served_as(request).runtime.task.kind, call_of(request), request.url.path
        items, wishes = openinference.asked(call.body, limits, path, kind)
        job = await ask(request, items)
        return answered(openinference.answer(job, wishes, call.request_id, path))


def _health(app: FastAPI, loader: Loader, service: Service) -> None:
    def ready() -> bool:
        return loader.served is not None and not service.draining

    @app.get("/healthz", tags=["health"])
    async def healthz() -> Response:
        return answered({"status": "alive"})

    @app.get("/readyz", tags=["health"])
    async def readyz(request: Request) -> Response:
        """Ready to answer; to a trusted caller also what with, and what is wrong with a newer release."""
        served, trusted = loader.served, call_of(request).trusted
        if served is None or not ready():
            reason = {"reason": loader.problem or "the server is stopping"} if trusted else {}
            return answered({"status": "not ready"} | reason, 503)
        if not trusted:
            return answered({"status": "ready"})
        model = {"name": served.name, "version": served.version, "variant": served.variant}
        return answered({"status": "ready", "model": model, "problem": loader.problem})

    @app.get("/v2/health/live", tags=["open inference protocol"])
    async def live() -> Response:
        return answered({"live": True})

    @app.get("/v2/health/ready", tags=["open inference protocol"])
    async def server_ready() -> Response:
        return answered({"ready": ready()}, 200 if ready() else 503)


def _reload(app: FastAPI, loader: Loader, rollout: Rollout | None) -> None:
    @app.post("/v1/reload", tags=["releases"], status_code=202)
    async def reload(request: Request) -> Response:
        """Looks at the alias now; for MLflow's webhook, and for whoever has moved it."""
        call = call_of(request)
        if not call.trusted and not signed(request.headers, call.body):
            raise Refused(401, "the signature is not that of EVERGREEN_WEBHOOK_SECRET, or older than five minutes")
        for follows in (loader, rollout.candidate) if rollout else (loader,):
            follows.look()
        return answered({"status": "looking"}, 202)

    @app.get("/v1/rollout", response_model=schemas.Rollout, tags=["releases"])
    async def rollout_() -> Response:
        """The trial of a candidate beside the champion, as this server sees it; mode off without one."""
        return answered(rollout.told() if rollout else {"mode": "off"})


def _numbers(app: FastAPI, loader: Loader, service: Service, metrics: Metrics) -> None:
    metrics.waiting.set_function(lambda: service.queue.waiting)
    for outcome in ("taken", "refused"):
        metrics.swaps.labels(outcome).set_function(lambda outcome=outcome: loader.counts[outcome])  # type: ignore[misc]
    metrics.rounds.set_function(lambda: service.rounds)
    metrics.ready.set_function(lambda: loader.served is not None and not service.draining)

    @app.get("/metrics", tags=["health"])
    async def numbers() -> Response:
        """For Prometheus."""
        served = [loader.served] if loader.served else []
        return Response(metrics.written(served), media_type=CONTENT_TYPE)


def _pages(app: FastAPI, loader: Loader, locked: bool) -> None:
    @app.get("/openapi.json", include_in_schema=False)
    async def openapi() -> Response:
        kind = loader.served.runtime.task.kind if loader.served else None
        return answered(document(app, kind, locked))

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return swagger(app.title)
