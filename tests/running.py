"""`mlops serve` as a process of its own, with what it is asked and how it ends."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import httpx
from servers import free_port
from tiny import tiny_release

from mlops import promotion, registry


class Running(NamedTuple):
    client: httpx.Client
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def port(self) -> int:
        assert self.client.base_url.port is not None
        return self.client.base_url.port


def publish(variant: str = "fp32", seed: int = 0) -> str:
    """Registers and promotes a tiny release; its version."""
    version = registry.register(tiny_release(variant, seed=seed), {}, None).version
    promotion.promote("tiny", version, "a test")
    return version


@contextmanager
def serving(
    folder: Path, *options: str, port: int = 0, environment: Mapping[str, str] | None = None
) -> Iterator[Running]:
    """The server of "tiny" once it is ready. folder: for its log."""
    port, log = port or free_port(set()), folder / f"serve-{time.monotonic_ns()}.log"
    command = [sys.executable, "-m", "mlops", "serve", "tiny", "--port", str(port), *options]
    with log.open("wb") as lines:
        process = subprocess.Popen(
            command, stderr=lines, env=os.environ | dict(environment or {}), start_new_session=True
        )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            wait_for(f"http://127.0.0.1:{port}/readyz", process, log)
            yield Running(client, process, log)
    finally:
        process.kill()
        process.wait(10)


def wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Until a server that was started answers this address with 200; its log where it ends or takes too long."""
    deadline = time.monotonic() + 120
    while True:
        assert process.poll() is None, log.read_text()[-3000:]
        assert time.monotonic() < deadline, log.read_text()[-3000:]
        try:
            if httpx.get(url, timeout=20).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
