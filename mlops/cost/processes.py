"""What this process and those below it have used so far."""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Used:
    """Seconds of processor time: own, of children that ended, and of those that live by (pid, when it was started)."""

    own: float
    ended: float
    living: dict[tuple[int, float], float] = field(default_factory=dict)


def used() -> Used:
    """The processor time so far."""
    import psutil

    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    living = {}
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            times = child.cpu_times()
            # What its own children used that have ended is nowhere else.
            below = getattr(times, "children_user", 0.0) + getattr(times, "children_system", 0.0)
            living[child.pid, child.create_time()] = times.user + times.system + below
    return Used(time.process_time(), ended.ru_utime + ended.ru_stime, living)


def between(before: Used, after: Used) -> float:
    """Processor seconds from one look to the next.

    A child that lived before and has ended since is in `after.ended` with all of its time, so what it had used before goes.
    """
    own = after.own - before.own
    others = after.ended - before.ended + sum(after.living.values()) - sum(before.living.values())
    return own + max(others, 0.0)


def resident() -> tuple[int, int]:
    """Bytes that this process and those below it hold now; pages that they share count for each."""
    import psutil

    process = psutil.Process()
    below = 0
    for each in process.children(recursive=True):
        with suppress(psutil.Error):
            below += each.memory_info().rss
    return process.memory_info().rss, below


def forget_peak() -> bool:
    """Makes the kernel measure this process's highest memory anew; false where it does not let us (Linux only)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
        return True
    except OSError:
        return False


def peak() -> int:
    """The highest memory of this process in bytes since `forget_peak`, between any two looks too; 0 where unknown."""
    with suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0


_lent: list[int] = []  # GPUs of processes below this one, which it cannot ask


@contextmanager
def lent(gpus: int) -> Iterator[None]:
    """As long as it lasts, processes below this one hold so many GPUs."""
    _lent.append(gpus)
    try:
        yield
    finally:
        _lent.remove(gpus)


def gpus() -> int:
    """GPUs that this process or those below it hold memory on. Does not wake a GPU that nobody uses."""
    return _own_gpus() + sum(_lent)


def _own_gpus() -> int:
    torch = sys.modules.get("torch")
    cuda = getattr(torch, "cuda", None)
    if cuda is None or not cuda.is_initialized() or os.environ.get("CUDA_VISIBLE_DEVICES") == "":
        return 0
    return sum(cuda.memory_reserved(device) > 0 for device in range(cuda.device_count()))
