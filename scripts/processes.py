"""Processes of `make up`: started together, stopped to the last descendant, found again after a crash (Linux)."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import secrets
import signal
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import psutil
from embedded import airflow_home, home

from mlops.process import die_with_parent

_PR_SET_CHILD_SUBREAPER = 36  # <linux/prctl.h>
MARK = "EVERGREEN_UP"
POLITE = 6.0


def state_file() -> Path:
    return home() / "up.json"


def birth(pid: int) -> str | None:
    """Boot and clock tick of a process's start: with its pid they name it for good. None where there is none."""
    try:
        ticks = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()[19]
        return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()}:{ticks}"
    except (OSError, IndexError):
        return None


class Group:
    """Everything that one `make up` runs. All of it carries a mark in its environment, inherited by its children."""

    def __init__(self) -> None:
        self.mark = secrets.token_hex(16)
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        # A descendant whose parent ends becomes a child of this process, so that none is out of reach.
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        self._save()

    def start(self, name: str, command: list[str], environment: dict[str, str], user: str | None = None) -> None:
        """Starts in a session of its own, killed by the kernel when this process ends; output to its log. user: to be."""
        with log_file(name).open("ab") as log:
            self.running[name] = subprocess.Popen(
                command,
                env=environment | {MARK: self.mark, "SPT_NOENV": "1"},  # titles of processes leave their environment be
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                user=user,
                preexec_fn=die_with_parent,  # noqa: PLW1509 (no other thread runs here)
            )
        self._save()

    def ended(self) -> dict[str, int]:
        """Exit codes of the processes that have ended, which are forgotten."""
        codes = {name: process.poll() for name, process in self.running.items()}
        done = {name: code for name, code in codes.items() if code is not None}
        for name in done:
            del self.running[name]
        return done

    def stop(self) -> None:
        """SIGTERM to every descendant, SIGKILL to what is left after some seconds, until there is none."""
        signal_all(_descendants(), signal.SIGTERM)
        deadline = time.monotonic() + POLITE
        while _descendants() and time.monotonic() < deadline:
            time.sleep(0.1)
        kill_all(_descendants)
        self.running.clear()
        state_file().unlink(missing_ok=True)

    def _save(self) -> None:
        processes = [{"name": name, "pid": p.pid, "birth": birth(p.pid)} for name, p in self.running.items()]
        state = {"mark": self.mark, "pid": os.getpid(), "birth": birth(os.getpid()), "processes": processes}
        path = state_file()
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.{os.getpid()}")
        partial.write_text(json.dumps(state, indent=1), encoding="utf-8")
        partial.replace(path)


def log_file(name: str) -> Path:
    folder = airflow_home() if name.startswith("airflow") else home()
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{name}.log"


def _descendants() -> list[psutil.Process]:
    """Living descendants; those that have ended are reaped on the way."""
    living = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if process.status() != psutil.STATUS_ZOMBIE:
                living.append(process)
            elif process.ppid() == os.getpid():
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(process.pid, os.WNOHANG)
    return living


def signal_all(processes: Iterable[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        with contextlib.suppress(psutil.Error):  # psutil looks at the start time too: a reused pid is left alone
            process.send_signal(number)


def kill_all(find: Any, seconds: float = 10.0) -> list[psutil.Process]:
    """SIGKILL to all that `find` finds, again and again, for some start others while they end; what is left."""
    deadline = time.monotonic() + seconds
    while (left := find()) and time.monotonic() < deadline:
        signal_all(left, signal.SIGKILL)
        time.sleep(0.1)
    return left


def load_state() -> dict[str, Any] | None:
    """What the last `make up` wrote down; none when it cleaned up after itself."""
    try:
        state = json.loads(state_file().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return state if isinstance(state, dict) and {"mark", "pid", "birth", "processes"} <= state.keys() else None


def alive(entry: dict[str, Any]) -> bool:
    """Whether that very process runs; another one with its pid is not it."""
    return entry["birth"] is not None and birth(entry["pid"]) == entry["birth"]


def leftovers(state: dict[str, Any]) -> list[psutil.Process]:
    """What a `make up` left: the processes that it wrote down, and all that carry its mark."""
    known = {entry["pid"] for entry in state["processes"] if alive(entry)}
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.pid == os.getpid() or process.status() == psutil.STATUS_ZOMBIE:
                continue
            if process.pid in known or process.environ().get(MARK) == state["mark"]:
                found.append(process)
    return found
