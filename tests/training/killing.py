"""Trainings in children of a process that has nothing but torch: some end with SIGKILL at a point that is chosen, some
train together.

A fork of the process that runs the tests would wait for ever for threads that earlier tests have started.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cloudpickle

from mlops.training.ranks import Ranks

_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(["torch", "transformers", "mlops.training.loop"])


def start(work: Callable[[], Any]) -> Any:
    """A process that does `work` with this one's environment."""
    process = _SERVER.Process(target=_unpacked, args=(_packed(work), dict(os.environ)))
    process.start()
    return process


def _packed(work: Callable[..., Any]) -> bytes:
    # Test modules cannot be imported by name in the child.
    module = sys.modules[work.__module__]
    cloudpickle.register_pickle_by_value(module)
    try:
        return cloudpickle.dumps(work)
    finally:
        cloudpickle.unregister_pickle_by_value(module)


def _unpacked(work: bytes, environment: dict[str, str], *arguments: Any) -> Any:
    import torch

    os.environ.clear()
    os.environ.update(environment)
    torch.set_num_threads(1)
    return cloudpickle.loads(work)(*arguments)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def in_child(work: Callable[[], Any]) -> int:
    """Runs `work` in a process of its own; how it ended, -9 for SIGKILL."""
    process = start(work)
    process.join()
    assert process.exitcode is not None
    return process.exitcode


def in_ranks(strategy: str, work: Callable[[Ranks], Any], world: int = 2) -> list[Any]:
    """Runs `work` in several processes that form a group; what each of them gave, by rank."""
    with tempfile.TemporaryDirectory() as place:
        found = _SERVER.SimpleQueue()
        packed, environment = _packed(work), dict(os.environ)
        processes = [
            _SERVER.Process(target=_rank, args=(place, Ranks(rank, world, strategy), packed, environment, found))
            for rank in range(world)
        ]
        for process in processes:
            process.start()
        values: dict[int, Any] = {}
        while len(values) < world:
            rank, value = found.get()
            values[rank] = value
            if isinstance(value, Exception):  # the others wait for it for ever
                for process in processes:
                    process.kill()
                raise value
        for process in processes:
            process.join()
    return [values[rank] for rank in range(world)]


def _rank(place: str, ranks: Ranks, work: bytes, environment: dict[str, str], found: Any) -> None:
    from torch import distributed

    try:
        os.environ.update(environment | {"GLOO_SOCKET_IFNAME": "lo"})
        meeting = f"file://{Path(place) / 'meeting'}"
        distributed.init_process_group("gloo", init_method=meeting, rank=ranks.rank, world_size=ranks.world)
        value = _unpacked(work, environment, ranks)
        distributed.destroy_process_group()
    except Exception as error:
        value = error
    found.put((ranks.rank, value))


def after_calls(owner: Any, name: str, calls: int, before: bool = False, end: Callable[[], Any] = die) -> None:
    """Replaces owner.name by itself with a SIGKILL after (or before) its n-th call; only ever in a child."""
    real = getattr(owner, name)
    done = 0

    def counted(*arguments: Any, **named: Any) -> Any:
        nonlocal done
        done += 1
        if before and done == calls:
            end()
        found = real(*arguments, **named)
        if done == calls:
            end()
        return found

    setattr(owner, name, counted)
