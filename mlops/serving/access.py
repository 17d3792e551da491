"""What each route needs: a scope of the caller's key, or nothing. A route that is not listed here cannot be reached."""

from __future__ import annotations

import re

OPEN = "open"  # no key
ANY = "any"  # any valid key
SIGNED = "reload"  # a key with this scope, or a signature that the route itself checks
SCOPES = ("predict", "feedback", "metrics", "reload")  # that a key may have

ROUTES: dict[tuple[str, str], str] = {
    ("GET", "/healthz"): OPEN,
    ("GET", "/readyz"): OPEN,
    ("GET", "/v2/health/live"): OPEN,
    ("GET", "/v2/health/ready"): OPEN,
    ("GET", "/metrics"): "metrics",
    ("GET", "/docs"): ANY,
    ("GET", "/openapi.json"): ANY,
    ("POST", "/v1/predict"): "predict",
    ("POST", "/v1/feedback"): "feedback",
    ("POST", "/v1/reload"): SIGNED,
    ("GET", "/v1/rollout"): "metrics",
    ("GET", "/v2"): "predict",
    ("GET", "/v2/models/{name}"): "predict",
    ("GET", "/v2/models/{name}/ready"): "predict",
    ("POST", "/v2/models/{name}/infer"): "predict",
    ("GET", "/v2/models/{name}/versions/{version}"): "predict",
    ("GET", "/v2/models/{name}/versions/{version}/ready"): "predict",
    ("POST", "/v2/models/{name}/versions/{version}/infer"): "predict",
}

_PLAIN = {path for _, path in ROUTES if "{" not in path}
_PATTERNS = [
    (re.compile(re.sub(r"\{\w+\}", "[^/]+", path)), path)
    for path in dict.fromkeys(path for _, path in ROUTES)
    if "{" in path
]


def template(path: str) -> str | None:
    """The listed path that this one is, such as /v2/models/{name}; none where it is not listed."""
    if path in _PLAIN:
        return path
    return next((known for pattern, known in _PATTERNS if pattern.fullmatch(path)), None)


def methods(known: str) -> list[str]:
    """What may be done with a listed path."""
    return [method for method, path in ROUTES if path == known]
