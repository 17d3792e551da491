"""The server as a process: its socket, its settings, and an end that answers everybody who was let in."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import logging
import os
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

import uvicorn

from mlops.errors import EvergreenError, UserError
from mlops.serving import logs, rollout
from mlops.serving.app import create_app
from mlops.serving.closing import no_more
from mlops.serving.guard import Call
from mlops.serving.keys import Keys, keys_file
from mlops.serving.options import Limits
from mlops.serving.predictions import Mode, PredictionLog
from mlops.serving.releases import Loader
from mlops.serving.service import Service
from mlops.serving.traces import tracing
from mlops.store import open_store

log = logging.getLogger("evergreen")

_SETTLE = 0.3  # seconds for what a connection has sent to be read


@dataclass(frozen=True)
class Options:
    """How to serve. auth: on, off, or auto: on beyond loopback. log: json, text or quiet. predictions: what is kept of them.

    drain_seconds: from SIGTERM, when readiness goes down, until no new connection is taken. connections: most at a time.
    rollout, share: how a candidate is tried, and on which share of the requests; none is the share of its pipeline file.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    auth: str = "auto"
    log: str = "json"
    drain_seconds: float = 2.0
    connections: int = 1024
    predictions: Mode = "hash"
    rollout: rollout.Mode | None = None
    share: float | None = None
    limits: Limits = field(default_factory=Limits)


def serve(name: str, alias: str = "champion", options: Options | None = None) -> None:
    """Serves until SIGINT or SIGTERM; logs to stderr. UserError where the address is taken or is none of this machine."""
    options = options or Options()
    logs.configure(options.log)
    keys = _keys(options)
    listening = _listen(options)
    # MLflow's own default tries for minutes: a server whose registry is gone has a last good release to answer with.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    loader = Loader(name, alias)
    predictions = None if options.predictions == "off" else PredictionLog(open_store(), name, options.predictions)
    trial = None
    if options.rollout:
        candidate = Loader(name, "candidate", optional=True)
        trial = rollout.Rollout(loader, candidate, options.rollout, options.share, predictions)
    choose = trial.choose if trial else lambda job: loader.served
    service = Service(choose, lambda: loader.problem, options.limits.waiting, beside=trial)
    traces = tracing()
    done = _done([logs.log_call, *(traces[:1] if traces else ())])
    app = create_app(loader, options.limits, keys, done, service, predictions, trial)
    log.info("serving %s@%s on http://%s:%s (docs at /docs)", name, alias, options.host, options.port)
    with listening:
        server = Server(_settings(app, options), service, options.drain_seconds)
        with contextlib.suppress(KeyboardInterrupt):
            try:
                server.run(sockets=[listening])
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
                raise _taken(options, error) from error
            if not server.started:
                raise EvergreenError(f"the server of {name} did not start; the lines above say why")
    if traces:
        traces[1]()
    log.info("stopped; %d texts were left without an answer", service.queue.waiting)


def _done(told: Sequence[Callable[[Call], None]]) -> Callable[[Call], None]:
    def done(call: Call) -> None:
        for tell in told:
            tell(call)

    return done


def _settings(app: Any, options: Options) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        host=options.host,
        port=options.port,
        log_config=None,
        log_level="warning",
        access_log=False,
        ws="none",
        server_header=False,
        limit_concurrency=options.connections,
        timeout_keep_alive=65,  # longer than the usual minute of a proxy's own connections
        timeout_graceful_shutdown=int(options.limits.deadline_seconds) + 5,
    )


def _listen(options: Options) -> socket.socket:
    """The address, taken before anything is loaded: left to uvicorn, a taken port is an exit code of its own.

    Nobody is let in before uvicorn does it: who comes while the model is loaded is refused at once, and can go elsewhere,
    where the kernel's queue would keep him waiting.
    """
    host, port = options.host, options.port
    taken = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        if os.name == "posix":
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if taken.family == socket.AF_INET6:
            taken.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        taken.bind((host, port))
        return taken
    except OSError as error:
        taken.close()
        raise _taken(options, error) from error


def _taken(options: Options, error: OSError) -> UserError:
    what = error.strerror or error
    return UserError(f"cannot listen on {options.host}:{options.port}: {what}; name another --port")


def _keys(options: Options) -> Keys | None:
    """The keys, where they are needed: one that everybody on the network can reach answers nobody without."""
    if options.auth == "off" or (options.auth == "auto" and _loopback(options.host)):
        if not _loopback(options.host):
            log.warning("everybody who reaches %s may ask: keys are off", options.host)
        return None
    keys = Keys(keys_file())
    if not len(keys):
        log.warning("%s has no key yet: nobody can ask; `mlops keys add NAME` makes one", keys.path)
    return keys


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Server(uvicorn.Server):
    """Ends in order: not ready, a while for balancers to see it, no new connection, every request answered, exit code 0."""

    def __init__(self, config: uvicorn.Config, service: Service, drain_seconds: float) -> None:
        super().__init__(config)
        self._service, self._drain_seconds, self._stop_at = service, drain_seconds, float("inf")

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # uvicorn would raise the signal once more at the end: a process that did what it was asked ends with 0.
        if self._service.draining:
            self.force_exit = self.should_exit
            self.should_exit = True
            return
        self._service.draining = True
        self._stop_at = time.monotonic() + self._drain_seconds

    async def on_tick(self, counter: int) -> bool:
        if time.monotonic() >= self._stop_at:
            self.should_exit = True
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # Left to uvicorn, who has connected a moment ago is reset: the kernel's queue of them is thrown away, and a connection
        # whose request has not been read yet counts as idle. So: the queue is emptied, its requests are read and answered
        # (with Connection: close), and then the rest.
        await no_more(sockets or [], _SETTLE)
        for server in self.servers:
            server.close()
        await asyncio.sleep(_SETTLE)
        await super().shutdown(sockets)
