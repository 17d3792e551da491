"""The OpenAPI document: bodies, answers, refusals and keys, with examples that the served model answers."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Response
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from mlops.serving import access, schemas
from mlops.tasks.base import Kind

_REFUSALS = {
    "POST": {
        "400": "The body or the path is not what it should be (Open Inference Protocol)",
        "408": "The body did not arrive in time",
        "413": "The body is too large",
        "422": "The body is not what it should be; one fault each",
        "429": "Too much waits; Retry-After says when to ask again",
        "503": "There is no release to answer with",
        "504": "The deadline has passed",
    },
    "GET": {"503": "There is no release to answer with"},
}
_MODELS = (schemas.Request, schemas.Feedback, schemas.InferRequest, schemas.Detail, schemas.Error)


def document(app: FastAPI, kind: Kind | None, locked: bool) -> dict[str, Any]:
    """kind: of the served model's items, none before there is one. locked: whether keys are needed."""
    found = get_openapi(title=app.title, version=app.version, routes=app.routes)
    _, definitions = models_json_schema(
        [(model, "validation") for model in _MODELS], ref_template="#/components/schemas/{model}"
    )
    components = found.setdefault("components", {})
    components["schemas"] = components.get("schemas", {}) | definitions["$defs"]
    if locked:
        components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    for path, methods in found["paths"].items():
        for method, operation in methods.items():
            _operation(path, method.upper(), operation, kind, locked)
    return found


def _operation(path: str, method: str, operation: dict[str, Any], kind: Kind | None, locked: bool) -> None:
    needed = access.ROUTES.get((method, path))
    error = "Error" if path.startswith("/v2") else "Detail"
    content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{error}"}}}
    told = dict(_REFUSALS[method])
    if "{name}" in path:
        told["404"] = "No such model or version is served here"
    if locked and needed != access.OPEN:
        told |= {"401": "A key is needed", "403": f"The key lacks the scope {needed}"}
        operation["security"] = [{"key": []}]
    if "health" in path or path.endswith("z"):
        content = {"application/json": {"schema": {"type": "object"}}}
    for status, description in told.items():
        operation["responses"][status] = {"description": description, "content": content}
    if "{name}" in path:
        operation["parameters"] = [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
            for name in ("name", "version")
            if f"{{{name}}}" in path
        ]
    bodies = {
        "/v1/predict": ("Request", schemas.examples(kind)),
        "/v1/feedback": ("Feedback", schemas.FEEDBACK),
        "/infer": ("InferRequest", schemas.infer_examples(kind)),
    }
    for end, (name, examples) in bodies.items():
        if path.endswith(end):
            body = {"schema": {"$ref": f"#/components/schemas/{name}"}, "examples": examples}
            operation["requestBody"] = {"required": True, "content": {"application/json": body}}
            operation.setdefault("parameters", []).append(_TIMEOUT)


_TIMEOUT = {
    "name": "x-timeout-seconds",
    "in": "header",
    "required": False,
    "description": "After how many seconds the answer is of no more use; then it is 504 and the work is dropped",
    "schema": {"type": "number", "exclusiveMinimum": 0},
}


def swagger(title: str) -> Response:
    """The page that shows the document; its script comes from a public host, so it is the one thing that needs the net."""
    return get_swagger_ui_html(openapi_url="openapi.json", title=title)
