"""Trainings in forks of this process: some end with SIGKILL at a point that is chosen, some train together."""

from __future__ import annotations

import multiprocessing
import os
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mlops.training.ranks import Ranks

_FORK = multiprocessing.get_context("fork")  # torch is imported already: a start takes no time


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def in_child(work: Callable[[], Any]) -> int:
    """Runs `work` in a fork of this process; how it ended, -9 for SIGKILL."""
    process = _FORK.Process(target=work)
    process.start()
    process.join()
    assert process.exitcode is not None
    return process.exitcode


def in_ranks(strategy: str, work: Callable[[Ranks], Any], world: int = 2) -> list[Any]:
    """Runs `work` in several forks that form a process group; what each of them gave, by rank."""
    with tempfile.TemporaryDirectory() as place:
        found = _FORK.SimpleQueue()
        processes = [
            _FORK.Process(target=_rank, args=(place, Ranks(rank, world, strategy), work, found))
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


def _rank(place: str, ranks: Ranks, work: Callable[[Ranks], Any], found: Any) -> None:
    from torch import distributed

    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    try:
        meeting = f"file://{Path(place) / 'meeting'}"
        distributed.init_process_group("gloo", init_method=meeting, rank=ranks.rank, world_size=ranks.world)
        value = work(ranks)
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
