"""What stands before every route: who may, how much, how slowly, under which name it is written down.

A request goes through in this order, and the first that refuses is the answer: is the path listed (404, 405), is the key
known and allowed (401, 403), is there room in the queue (429), how large is the body (413) and how long does it take (408).
Nothing is parsed before that.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mlops.serving import access
from mlops.serving.keys import Key, Keys
from mlops.serving.options import Limits
from mlops.serving.refused import Refused, refusal
from mlops.serving.service import Service

log = logging.getLogger("evergreen")

_GOOD_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")
_CLOSE = {"Connection": "close"}  # what is left of a body that was not read must not be taken for the next request


@dataclass
class Call:
    """One request, as it is counted and logged. route: its listed path, none where it has none. status 499: hung up."""

    request_id: str
    method: str
    route: str | None
    body: bytes = b""
    key: Key | None = None
    trusted: bool = False  # whether the caller showed a key, or none is needed
    status: int = 499
    seconds: float = 0.0
    traceparent: str = ""  # of W3C's trace context
    facts: dict[str, Any] = field(default_factory=dict)  # of the answer: items, tokens, version


class Guard:
    """ASGI middleware. keys: none where no key is needed. done: told of every request at its end."""

    def __init__(
        self, app: ASGIApp, limits: Limits, service: Service, keys: Keys | None, done: Callable[[Call], None]
    ) -> None:
        self._app, self._limits, self._service, self._keys, self._done = app, limits, service, keys, done
        self._buffered = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        headers = dict(scope["headers"])
        sent = headers.get(b"x-request-id", b"").decode("latin-1")
        known = access.template(scope["path"])
        call = Call(sent if _GOOD_ID.fullmatch(sent) else uuid.uuid4().hex, scope["method"], known)
        call.traceparent = headers.get(b"traceparent", b"").decode("latin-1")
        scope.setdefault("state", {})["call"] = call

        async def named(message: Message) -> None:
            if message["type"] == "http.response.start":
                call.status = message["status"]
                own = [(b"x-request-id", call.request_id.encode())]
                if self._service.draining:  # so that the client's next request goes to another server
                    own.append((b"connection", b"close"))
                message["headers"] = [*message.get("headers", []), *own]
            await send(message)

        try:
            await self._pass(call, scope, headers, receive, named)
        finally:
            self._buffered -= len(call.body)
            call.seconds = time.perf_counter() - started
            self._done(call)

    async def _pass(self, call: Call, scope: Scope, headers: dict[bytes, bytes], receive: Receive, send: Send) -> None:
        begun = False

        async def watched(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            self._admit(call, headers)
            if call.method == "POST" and not await self._read(call, headers, receive):
                return
            await self._app(scope, receive, watched)
        except Exception as error:
            found = refusal(error, scope["path"])
            if found.status == 500:
                log.error("request %s failed", call.request_id, exc_info=error)
            if begun:
                raise
            await _answer(found, scope["path"], send)

    def _admit(self, call: Call, headers: dict[bytes, bytes]) -> None:
        """Refuses what needs no body to be refused."""
        needed = access.ROUTES.get((call.method, call.route)) if call.route else None
        if call.route is None:
            raise Refused(404, "there is no such path; /docs lists those there are", headers=_CLOSE)
        if needed is None:
            allowed = ", ".join(access.methods(call.route))
            raise Refused(405, f"allowed here: {allowed}", headers={"Allow": allowed} | _CLOSE)
        if self._keys is None:
            call.trusted = True
        elif needed != access.OPEN or b"authorization" in headers or b"x-api-key" in headers:
            self._allow(call, headers, needed)
        if needed == "predict" and call.method == "POST":
            self._service.queue.check()

    def _allow(self, call: Call, headers: dict[bytes, bytes], needed: str) -> None:
        assert self._keys is not None
        found = self._keys.find(_shown(headers))
        call.key, call.trusted = found, found is not None
        if needed == access.OPEN:
            return
        if found is None and needed == access.SIGNED and b"x-mlflow-signature" in headers:
            return  # not trusted; the route looks at the signature, for which it needs the body
        if found is None:
            told = "a key is needed, in the header Authorization: Bearer KEY; `mlops keys add` makes one"
            raise Refused(401, told, headers={"WWW-Authenticate": "Bearer"} | _CLOSE)
        if needed != access.ANY and needed not in found.scopes:
            told = f"the key {found.id} has the scopes {', '.join(found.scopes) or 'none'}; {needed} is needed"
            raise Refused(403, told, headers=_CLOSE)

    async def _read(self, call: Call, headers: dict[bytes, bytes], receive: Receive) -> bool:
        """The whole body into `call.body`; False where the client has hung up."""
        limits = self._limits
        declared = headers.get(b"content-length", b"0")
        if int(declared if declared.isdigit() else b"0") > limits.body_bytes:
            raise self._too_large()
        chunks: list[bytes] = []
        size, more = 0, True
        try:
            async with asyncio.timeout(limits.body_seconds):
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return False
                    chunk = message.get("body", b"")
                    size += len(chunk)
                    self._buffered += len(chunk)
                    if size > limits.body_bytes:
                        raise self._too_large()
                    if self._buffered > limits.buffered_bytes:
                        told = f"all bodies together have more than {limits.buffered_bytes} bytes"
                        raise Refused(429, told, headers={"Retry-After": "1"} | _CLOSE)
                    chunks.append(chunk)
                    more = message.get("more_body", False)
        except TimeoutError:
            told = f"the body was not there within {limits.body_seconds:g} s"
            raise Refused(408, told, headers=_CLOSE) from None
        finally:
            call.body = b"".join(chunks)
            self._buffered -= size - len(call.body)  # what was counted and not kept
        return True

    def _too_large(self) -> Refused:
        return Refused(413, f"the body has more than {self._limits.body_bytes} bytes", headers=_CLOSE)


def _shown(headers: dict[bytes, bytes]) -> str:
    """The key that a request shows."""
    kind, _, rest = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
    return rest.strip() if kind.lower() == "bearer" else headers.get(b"x-api-key", b"").decode("latin-1").strip()


async def _answer(refused: Refused, path: str, send: Send) -> None:
    headers = [(b"content-type", b"application/json")]
    body = refused.body(path)
    headers += [(name.lower().encode(), value.encode()) for name, value in refused.headers.items()]
    headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": refused.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
