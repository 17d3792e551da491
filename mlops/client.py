"""A small typed client of the server: `Client("http://localhost:8080").predict(["a text"])`.

from mlops.client import Client

with Client("http://localhost:8080", key="evg_…") as client:
    answer = client.predict(["Shares rose after the merger was announced."])
    client.feedback(answer.request_id, "business")
"""

from __future__ import annotations

import http.client
import json
import random
import socket
import ssl
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

from mlops.errors import EvergreenError, UserError

Input = str | Sequence[str] | Mapping[str, str]


@dataclass(frozen=True)
class Answer:
    """One prediction per input, in order, all by one release."""

    predictions: tuple[Any, ...]
    truncated: tuple[bool, ...]
    request_id: str
    model: str
    version: str
    variant: str


class ServerError(EvergreenError):
    """The server did not answer with a prediction. status: HTTP's; 0 where there was no answer at all."""

    def __init__(self, status: int, reason: str, request_id: str = "") -> None:
        self.status, self.reason, self.request_id = status, reason, request_id
        where = f" (request {request_id})" if request_id else ""
        super().__init__(f"{status or 'no answer'}: {reason}{where}")


class Client:
    """One connection, kept; calls from several threads take turns.

    timeout: seconds of one call, which the server is told too, with all tries. tries: of what may be asked again, where the
    server is busy (429), not ready (503) or gone; between them it waits as long as the server says.
    Raises UserError for an address that is none.
    """

    def __init__(self, url: str, key: str | None = None, timeout: float = 30.0, tries: int = 3) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UserError(f"found the address {url!r}; allowed is http://HOST:PORT or https://HOST")
        self._parts, self._prefix = parts, parts.path.rstrip("/")
        self._timeout, self._tries = timeout, max(1, tries)
        self._headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
        self._connection: http.client.HTTPConnection | None = None
        self._lock = threading.Lock()

    def predict(self, inputs: Sequence[Input], request_id: str | None = None, sticky: str | None = None) -> Answer:
        """The answers to texts, pairs {"text_a", "text_b"} or lists of tokens. sticky: requests with the same one go to the
        same release while two of them serve. Raises UserError for inputs that the model cannot be asked, else ServerError."""
        if isinstance(inputs, str):
            raise TypeError("found one text, allowed is a list of texts")
        headers = {"X-Timeout-Seconds": f"{self._timeout:g}"}
        headers |= {"X-Request-ID": request_id} if request_id else {}
        headers |= {"X-Sticky-ID": sticky} if sticky else {}
        body = self._ask("POST", "/v1/predict", {"inputs": list(inputs)}, headers)
        model = body["model"]
        return Answer(
            tuple(body["predictions"]),
            tuple(body["truncated"]),
            body["request_id"],
            model["name"],
            model["version"],
            model["variant"],
        )

    def feedback(self, request_id: str, label: str, item: int = 0) -> None:
        """Tells what would have been right for an input of an earlier request."""
        self._ask("POST", "/v1/feedback", {"request_id": request_id, "label": label, "item": item})

    def ready(self) -> bool:
        """Whether there is a release to answer with."""
        try:
            self._once("GET", "/readyz", None, {}, self._timeout)
        except ServerError:
            return False
        return True

    def _ask(self, method: str, path: str, body: Any, headers: Mapping[str, str] | None = None) -> Any:
        end = time.monotonic() + self._timeout
        for left in reversed(range(self._tries)):
            try:
                return self._once(method, path, body, headers or {}, max(0.001, end - time.monotonic()))
            except _Busy as busy:
                # A little apart, so that all who were refused together do not come back together.
                pause = busy.seconds * random.uniform(1.0, 1.2)
                if not left or time.monotonic() + pause >= end:
                    raise ServerError(busy.status, busy.reason, busy.request_id) from None
                time.sleep(pause)
        raise AssertionError("unreachable")

    def _once(self, method: str, path: str, body: Any, headers: Mapping[str, str], timeout: float) -> Any:
        sent = None if body is None else json.dumps(body, ensure_ascii=False).encode("utf-8", "surrogatepass")
        with self._lock:
            try:
                connection = self._open(timeout)
                connection.request(method, self._prefix + path, sent, self._headers | dict(headers))
                answer = connection.getresponse()
                status, data = answer.status, answer.read()
                if answer.will_close:
                    self._close()
            except (OSError, http.client.HTTPException) as error:
                self._close()
                late = isinstance(error, TimeoutError)
                told = f"{self._parts.netloc} did not answer: {type(error).__name__}: {error}"
                raise (ServerError(0, told) if late else _Busy(0, told, 0.2)) from error
        found = _json(data)
        if status < 300:
            return found
        reason, own = _reason(found), answer.getheader("X-Request-ID", "")
        if status in (429, 503):
            raise _Busy(status, reason, float(answer.getheader("Retry-After", "1")), own)
        if status == 422:
            raise UserError(f"{reason} (request {own})")
        raise ServerError(status, reason, own)

    def _open(self, timeout: float) -> http.client.HTTPConnection:
        """The kept connection, or a new one where the server has closed that."""
        if self._connection is None:
            kind = http.client.HTTPSConnection if self._parts.scheme == "https" else http.client.HTTPConnection
            more: dict[str, Any] = {"context": ssl.create_default_context()} if self._parts.scheme == "https" else {}
            assert self._parts.hostname is not None
            self._connection = kind(self._parts.hostname, self._parts.port, timeout=timeout, **more)
            self._connection.connect()
            self._connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connection.sock.settimeout(timeout)
        return self._connection

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def close(self) -> None:
        """Ends the connection; another call opens a new one."""
        with self._lock:
            self._close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Busy(ServerError):
    """Worth asking again."""

    def __init__(self, status: int, reason: str, seconds: float, request_id: str = "") -> None:
        super().__init__(status, reason, request_id)
        self.seconds = seconds


def _json(data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError:
        return {"detail": data[:200].decode("utf-8", "replace")}


def _reason(body: Any) -> str:
    detail = body.get("detail", body.get("reason", body)) if isinstance(body, dict) else body
    if isinstance(detail, list):
        return "; ".join(f"{'.'.join(map(str, fault.get('loc', ())))}: {fault.get('msg', fault)}" for fault in detail)
    return str(detail)
