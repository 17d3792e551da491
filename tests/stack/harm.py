"""Ways to harm a running stack, as machines, networks and out-of-memory killers do."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import psutil

Harm = Callable[[Any], None]


def tree(pid: int) -> list[psutil.Process]:
    """A process and all below it; itself last."""
    try:
        top = psutil.Process(pid)
        return [*reversed(top.children(recursive=True)), top]
    except psutil.NoSuchProcess:
        return []


def kill(service: str) -> Harm:
    """SIGKILL of a service and all that it started. The stack starts it again, as Docker would."""

    def harm(stack: Any) -> None:
        for process in reversed(tree(stack.processes[service])):
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue

    return harm


def silence(service: str, seconds: float = 30) -> Harm:
    """A service that answers nobody for a while, without closing a connection: a machine that hangs, a network that is cut."""

    def harm(stack: Any) -> None:
        stopped = tree(stack.processes[service])
        for process in stopped:
            process.suspend()

        def wake() -> None:
            time.sleep(seconds)
            for process in stopped:
                try:
                    process.resume()
                except psutil.NoSuchProcess:
                    continue

        threading.Thread(target=wake).start()

    return harm


def orphan(service: str) -> Harm:
    """SIGKILL of the process of a worker that looks after a running task: what it had started must end with it."""

    def harm(stack: Any) -> None:
        deadline = time.monotonic() + 60
        while not (below := [each for each in tree(stack.processes[service]) if _is_step(each)]):
            assert time.monotonic() < deadline, f"no step runs below {service}"
            time.sleep(0.05)
        step = below[0]
        task = step.parent()
        assert task is not None
        supervisor = task.parent()
        assert supervisor is not None
        os.kill(supervisor.pid, signal.SIGKILL)
        deadline = time.monotonic() + 15
        while alive := [each for each in (step, task) if _works(each)]:
            assert time.monotonic() < deadline, f"orphans: {alive}"
            time.sleep(0.1)

    return harm


def _works(process: psutil.Process) -> bool:
    """A zombie does nothing any more; not every machine has somebody who takes it away."""
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _is_step(process: psutil.Process) -> bool:
    try:
        return "mlops" in process.cmdline() and "step" in process.cmdline()
    except psutil.Error:
        return False
