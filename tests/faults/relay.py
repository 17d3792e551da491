"""An HTTP server in front of another one that harms what passes: answers 503, waits, or cuts the line after the deed."""

from __future__ import annotations

import http.client
import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal
from urllib.parse import urlsplit

Kind = Literal["refuse", "slow", "cut"]
_OWN = ("connection", "transfer-encoding", "content-length", "keep-alive", "expect")


@dataclass
class Harm:
    """refuse: 503, nothing done. slow: done, answered after `seconds`. cut: done, and the line ends without an answer.

    method, path: expressions that a request has to match. times: how often each request, told by method and path, is harmed.
    """

    kind: Kind
    method: str = ".*"
    path: str = ".*"
    times: int = 1
    seconds: float = 0.0
    done: Counter[str] = field(default_factory=Counter)

    def meets(self, method: str, path: str) -> bool:
        key = f"{method} {urlsplit(path).path}"
        if not (re.fullmatch(self.method, method) and re.search(self.path, path)) or self.done[key] >= self.times:
            return False
        self.done[key] += 1
        return True


@dataclass
class Relay:
    """url: where to ask instead. harms: the first that a request meets is done to it."""

    url: str
    harms: list[Harm] = field(default_factory=list)


@contextmanager
def relay(to: str) -> Iterator[Relay]:
    """A relay to http://host:port, harmless at first."""
    there = urlsplit(to)
    known = Relay("")
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_one_request(self) -> None:
            try:
                super().handle_one_request()
            except (TimeoutError, ConnectionError):  # the client went first
                self.close_connection = True

        def any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            with lock:
                harm = next((each for each in known.harms if each.meets(self.command, self.path)), None)
            if harm and harm.kind == "refuse":
                self.give(503, [], b"")
                return
            status, headers, answer = self.ask(body)
            if harm and harm.kind == "cut":
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            if harm:
                time.sleep(harm.seconds)
            self.give(status, headers, answer)

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = do_PATCH = any

        def ask(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
            line = http.client.HTTPConnection(there.hostname or "", there.port, timeout=60)
            try:
                line.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
                for name, value in self.headers.items():  # the host too: signatures cover it
                    if name.lower() not in _OWN:
                        line.putheader(name, value)
                line.putheader("Content-Length", str(len(body)))
                line.endheaders(body)
                found = line.getresponse()
                return found.status, found.getheaders(), found.read()
            finally:
                line.close()

        def give(self, status: int, headers: list[tuple[str, str]], answer: bytes) -> None:
            self.send_response_only(status)
            length = str(len(answer))
            for name, value in headers:
                if name.lower() == "content-length" and self.command == "HEAD":
                    length = value
                elif name.lower() not in _OWN:
                    self.send_header(name, value)
            if status != 204:
                self.send_header("Content-Length", length)
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    known.url = f"http://127.0.0.1:{server.server_address[1]}"
    serving = threading.Thread(target=server.serve_forever, args=(0.05,))
    serving.start()
    try:
        yield known
    finally:
        server.shutdown()
        serving.join()
        server.server_close()
