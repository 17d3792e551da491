"""What this process may use of the machine's processor."""

from __future__ import annotations

import functools
import math
import os
import platform
from pathlib import Path


def threads() -> int:
    """Threads to compute with: OMP_NUM_THREADS if set, else the processors that affinity and cgroup quota leave; at least 1."""
    asked = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if asked.isdigit() and int(asked) > 0:
        return int(asked)
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cgroup_quota()
    return max(1, allowed if quota is None else min(allowed, math.ceil(quota)))


def cgroup_quota(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> float | None:
    """Processors that the control group grants, such as 1.5; none where nothing limits them. Versions 1 and 2.

    A limit may be set on any group above this one: the smallest counts.
    """
    try:
        places = [line.split(":", 2) for line in own.read_text().splitlines()]
    except OSError:
        places = []
    quotas = []
    for _, controllers, path in (place for place in places if len(place) == 3):
        base = root if not controllers else root / "cpu"
        if controllers and "cpu" not in controllers.split(","):
            continue
        group = base / path.lstrip("/")
        for folder in (group, *group.parents):
            quotas.append(_quota(folder))
            if folder == base:
                break
    quotas += [_quota(root), _quota(root / "cpu")]  # inside a container its own group is mounted as the root
    return min((quota for quota in quotas if quota is not None), default=None)


def _quota(folder: Path) -> float | None:
    try:
        if (folder / "cpu.max").exists():
            limit, period = (folder / "cpu.max").read_text().split()[:2]
        else:
            limit = (folder / "cpu.cfs_quota_us").read_text().strip()
            period = (folder / "cpu.cfs_period_us").read_text().strip()
        # "max" in version 2 and -1 in version 1 mean no limit.
        return None if limit == "max" or int(limit) <= 0 else int(limit) / int(period)
    except (OSError, ValueError):
        return None


@functools.cache
def saturates(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether 8-bit products overflow their 16-bit sums here: x86 without VNNI. Then weights have to keep to 7 bits."""
    if platform.machine().lower() not in ("x86_64", "amd64", "i686"):
        return False
    return not {"avx512_vnni", "avx_vnni"} & _flags(cpuinfo)


@functools.cache
def processor(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """The model of the processor, as it names itself; what was measured on one does not hold on another."""
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        lines = []
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith(("model name", "CPU part")))
    return next(names, platform.processor() or platform.machine())


def computes_bf16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether the processor multiplies bfloat16 by itself (AMX, AVX512-BF16), and oneDNN may use it.

    Elsewhere bfloat16 is emulated, ten times slower than float32. ONEDNN_MAX_CPU_ISA is oneDNN's own switch: naming
    anything in it is taken for a wish to do without.
    """
    free = os.environ.get("ONEDNN_MAX_CPU_ISA", "ALL").upper() in ("", "ALL", "DEFAULT")
    return free and bool({"amx_bf16", "avx512_bf16"} & _flags(cpuinfo))


@functools.cache
def _flags(cpuinfo: Path) -> frozenset[str]:
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        return frozenset()
    return frozenset(next((line.split(":", 1)[1].split() for line in lines if line.startswith("flags")), []))
