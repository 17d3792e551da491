"""Several processes on this machine that train together.

They are started here and not by torchrun, whose rendezvous listens on every address of the machine and unpickles what it
is sent. Ours meet in a file and talk over the loopback; they end when this process does, whatever ends it.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mlops import errors
from mlops.config_train import LaunchSection
from mlops.cost.processes import lent
from mlops.errors import EvergreenError, UserError
from mlops.serving.cpu import threads
from mlops.store import open_store
from mlops.training.fit import Job
from mlops.training.setting import Reporter

log = logging.getLogger("evergreen")

_POLL = 0.05
_OTHERS = ("gloo", "nccl", "connection", "timed out", "socket")  # a process that lost another one speaks of these
_ROOT = Path(__file__).resolve().parents[2]

JOB, STORE, REPORTS = "job.json", "meeting", "reports.jsonl"


def device_kind() -> str:
    """cuda or cpu, without a context on any GPU."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def processes(launch: LaunchSection) -> int:
    """How many: as the section says, else one per GPU, else one. UserError for more than there are GPUs."""
    import torch

    gpus = int(torch.cuda.device_count())
    if launch.processes == "auto":
        return max(1, gpus)
    if gpus and launch.processes > gpus:
        raise UserError(f"train.launch.processes: found {launch.processes}; allowed: 1 to {gpus}, one for each GPU")
    return launch.processes


def error_file(place: Path, rank: int) -> Path:
    """Where a process leaves the error that ended it."""
    return place / f"error-{rank}.json"


def together(job: Job, count: int, report: Reporter | None = None) -> None:
    """Runs `fit` in `count` processes; their log lines go to our stderr, the first one's error is raised as our own.

    report: takes what the first process reports, here; what it raises ends them all.
    """
    with open_store().workspace() as place, lent(count if device_kind() == "cuda" else 0):
        (place / JOB).write_text(job.dump(), encoding="utf-8")
        started: list[subprocess.Popen[bytes]] = []
        try:
            hear = _hearing(place / REPORTS, report) if report else lambda: None
            started.extend(_start(place, rank, count) for rank in range(count))
            failed = _wait(started, hear)
        finally:
            _end(started)
        if failed:
            raise _first_error(place, [process.returncode for process in started], failed)


def _start(place: Path, rank: int, count: int) -> subprocess.Popen[bytes]:
    path = os.pathsep.join(filter(None, (str(_ROOT), os.environ.get("PYTHONPATH", ""))))
    own = {
        "EVERGREEN_PARENT_PID": str(os.getpid()),
        "PYTHONPATH": path,
        "PYTHONUNBUFFERED": "1",
        "OMP_NUM_THREADS": str(max(1, threads() // count)),
    }
    command = [sys.executable, "-m", "mlops.training.worker", str(place), str(rank), str(count)]
    # stdout is for results alone: what a library prints goes where the log goes. Each has a session of its own, so that
    # what the terminal or Airflow sends to our group reaches us, and we end them.
    return subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=2, start_new_session=True, env=dict(os.environ) | own
    )


def teller(place: Path, rank: int) -> Reporter | None:
    """What a process reports by, a line of JSON each time; none where nobody hears it."""
    path = place / REPORTS
    if rank or not path.exists():
        return None

    def tell(values: dict[str, float], step: int) -> None:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps([values, step]) + "\n")

    return tell


def _hearing(path: Path, report: Reporter) -> Callable[[], None]:
    """Hands on the lines that have come since the last call, whole ones only."""
    path.touch()
    at = 0

    def hear() -> None:
        nonlocal at
        with path.open("rb") as file:
            file.seek(at)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                at += len(line)
                report(*json.loads(line))

    return hear


def _wait(started: Sequence[subprocess.Popen[bytes]], hear: Callable[[], None]) -> list[int]:
    """Until all have ended well, or the first has not; the ranks that failed by then."""
    while True:
        codes = [process.poll() for process in started]
        hear()
        failed = [rank for rank, code in enumerate(codes) if code]
        if failed or all(code == 0 for code in codes):
            return failed
        time.sleep(_POLL)


def _end(started: Sequence[subprocess.Popen[bytes]]) -> None:
    for process in started:
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
    for process in started:
        process.wait()


def _first_error(place: Path, codes: Sequence[int], failed: Sequence[int]) -> EvergreenError:
    """The error that began it, not those of processes that then lost their peers."""
    left = [
        _read(error_file(place, rank)) | {"rank": rank}
        for rank in range(len(codes))
        if error_file(place, rank).exists()
    ]
    left.sort(key=lambda each: each["time"])
    ours = [each for each in left if each["kind"] and hasattr(errors, each["kind"])]
    causes = ours or [each for each in left if not any(word in each["message"].lower() for word in _OTHERS)]
    silent = [rank for rank in failed if not error_file(place, rank).exists()]
    if causes:
        first = causes[0]
    elif silent:
        code = codes[silent[0]]
        how = f"ended by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        hint = (
            "; the kernel does that where memory runs out: lower train.batch_tokens" if code == -signal.SIGKILL else ""
        )
        first = {"rank": silent[0], "kind": "", "message": f"{how}, its reason is in the log, if it said one{hint}"}
    else:
        first = left[0]
    kind = getattr(errors, first["kind"] or "EvergreenError", EvergreenError)
    known = kind in (errors.BaseModelError, errors.UserError, errors.SourceError, errors.StoreError, errors.NotFound)
    error: EvergreenError = (kind if known else EvergreenError)(
        f"rank {first['rank']} of {len(codes)}: {first['message']}"
    )
    return error


def _read(path: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:  # it was killed while it wrote
        return {"time": time.time_ns(), "kind": "", "message": "its error could not be read"}
    return found
