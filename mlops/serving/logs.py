"""Lines that a machine reads: one JSON object each, one per request, never a text that was asked."""

from __future__ import annotations

import datetime
import logging
import sys
from typing import Any

import orjson

from mlops.serving.guard import Call

access_log = logging.getLogger("evergreen.access")


class JsonLines(logging.Formatter):
    """{"time", "level", "message", …}; what a record carries as `facts` becomes keys of its own."""

    def format(self, record: logging.LogRecord) -> str:
        when = datetime.datetime.fromtimestamp(record.created, datetime.UTC)
        line: dict[str, Any] = {
            "time": when.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
        }
        line |= getattr(record, "facts", {})
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(line, default=str, option=orjson.OPT_NON_STR_KEYS).decode()


class PlainLines(logging.Formatter):
    """The same for a person."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(message)s", "%H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        facts = getattr(record, "facts", {})
        told = " ".join(f"{name}={value}" for name, value in facts.items() if value is not None)
        return f"{super().format(record)} {told}".rstrip()


def configure(form: str) -> None:
    """form: json, text, or quiet for no line per request. Our log and the HTTP server's go to stderr in one form."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if form == "json" else PlainLines())
    for name in ("evergreen", "uvicorn.error"):
        logger = logging.getLogger(name)
        logger.handlers[:] = [handler]
        logger.propagate = False
    access_log.disabled = form == "quiet"


def log_call(call: Call) -> None:
    """One line of a request. The path is the route's, not the caller's: that may hold anything."""
    if access_log.disabled or not access_log.isEnabledFor(logging.INFO):
        return
    facts = {
        "request_id": call.request_id,
        "method": call.method if call.route else call.method[:16],
        "route": call.route,
        "status": call.status,
        "ms": round(call.seconds * 1000, 2),
        "bytes": len(call.body),
        "key": call.key.id if call.key else None,
    }
    access_log.info("request", extra={"facts": facts | call.facts})
