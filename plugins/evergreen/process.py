"""Processes of an Airflow task: its own, which ends with its supervisor, and that of a step, which ends with the task."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import queue
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import IO, Any

from mlops import settings
from mlops.errors import EvergreenError, Rejected, UserError
from mlops.process import die_with_parent

log = logging.getLogger("evergreen")

# Airflow gives a task that it stops 5 s between SIGTERM and SIGKILL; the step's group must be gone by then.
GRACE = 3.0
KEPT_LINES = 12


def begin_task() -> None:
    """What every Airflow task of this project begins with: no telemetry, no pickle, and no life after its supervisor.

    A task whose supervisor was killed would not notice before it has something to say; until then it would write beside
    the task that Airflow starts in its place.
    """
    from airflow.sdk.execution_time import task_runner
    from airflow.sdk.execution_time.comms import CommsDecoder

    settings.quiet()
    # Not where a task runs in somebody's own process, as by `airflow dags test`.
    if isinstance(getattr(task_runner, "SUPERVISOR_COMMS", None), CommsDecoder):
        die_with_parent()


class Process:
    """A call of `mlops` in a process of its own, whose answer is one JSON object.

    name: what it is called in messages. command: the word that its own messages begin with. arguments: after `mlops`.
    interpreter: words of a command line, such as "/opt/gpu/bin/python" or "nice -n 10 python3"; by default what
    EVERGREEN_PYTHON says, else the interpreter that runs Airflow. cost: what it said that it cost, also where `run`
    raises.
    """

    def __init__(self, name: str, command: str, arguments: Sequence[str], interpreter: str | None = None) -> None:
        words = shlex.split(interpreter or os.environ.get("EVERGREEN_PYTHON", "")) or [sys.executable]
        self.name, self._said = name, f"mlops {command}: "
        self.command = [*words, "-m", "mlops", *arguments]
        self._alone = len(words) == 1
        self.cost: dict[str, Any] | None = None
        self._process: subprocess.Popen[str] | None = None

    def run(self, handed: Mapping[str, Any]) -> dict[str, Any]:
        """Hands over JSON, logs stderr line by line as it comes, returns what stdout has.

        Raises Rejected with the verdict (exit 3), UserError with the command's own words (exit 2), else EvergreenError.
        Whatever else ends this call, a timeout or a termination, ends the whole group first.
        """
        try:
            self._process = subprocess.Popen(
                self.command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
                env=self._environment(),
                text=True,
                encoding="utf-8",
                errors="replace",
            )
        except OSError as error:
            raise UserError(f"{self.name}: cannot start {self.command[0]!r}: {error}; see EVERGREEN_PYTHON") from error
        try:
            out, last = self._talk(self._process, json.dumps(handed))
        except BaseException:
            self.kill()
            raise
        return self._answer(self._process.wait(), out, last)

    def kill(self) -> None:
        """SIGTERM to the whole group, SIGKILL to what is left of it; nothing when the step has ended."""
        process = self._process
        if process is None or process.returncode is not None:
            return
        deadline = time.monotonic() + GRACE
        self._signal(signal.SIGTERM)
        while not _ended(process.pid) and time.monotonic() < deadline:
            time.sleep(0.05)
        self._signal(signal.SIGKILL)
        process.wait()

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, number)

    def _environment(self) -> dict[str, str]:
        # Airflow's settings hold its secrets; a step knows nothing of Airflow and needs none of them.
        kept = {key: value for key, value in os.environ.items() if not key.startswith("AIRFLOW__")}
        kept["PYTHONUNBUFFERED"] = "1"
        # The check of who the parent is only holds where no wrapper stands between.
        kept.pop("EVERGREEN_PARENT_PID", None)
        return kept | ({"EVERGREEN_PARENT_PID": str(os.getpid())} if self._alone else {})

    def _talk(self, process: subprocess.Popen[str], text: str) -> tuple[str, deque[str]]:
        """Feeds stdin and reads both pipes at once, so that neither side can block; logs from this thread alone."""
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        out: list[str] = []
        threads = [
            threading.Thread(target=_feed, args=(process.stdin, text), daemon=True),
            threading.Thread(target=_collect, args=(process.stdout, out.append), daemon=True),
            threading.Thread(target=_collect, args=(process.stderr, lines.put), daemon=True),
        ]
        for thread in threads:
            thread.start()
        last: deque[str] = deque(maxlen=KEPT_LINES)
        while not _ended(process.pid):
            _log_line(lines, last, timeout=0.2)
        # The leader is not waited for yet, so its group number cannot belong to anybody else.
        self._signal(signal.SIGKILL)
        for thread in threads:
            thread.join(timeout=GRACE)
        while not lines.empty():
            _log_line(lines, last, timeout=0)
        return "".join(out), last

    def _answer(self, code: int, out: str, last: deque[str]) -> dict[str, Any]:
        said = "\n".join(last) or "it said nothing"
        try:
            answer = json.loads(out)
        except ValueError:
            answer = None
        self.cost = answer.get("cost") if isinstance(answer, dict) else None
        if code == 2:
            raise UserError(self._own_words(said))
        if code != 0 and not (code == 3 and isinstance(answer, dict) and "rejected" in answer):
            how = f"ended by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
            raise EvergreenError(f"{self.name}: {how}; its last words:\n{said}")
        if not isinstance(answer, dict) or not self._whole(answer):
            raise EvergreenError(f"{self.name}: found {out[:200]!r} on stdout; allowed is one JSON object")
        if code == 3:
            from mlops.types import Verdict

            raise Rejected(Verdict.model_validate(answer["rejected"]))
        return answer

    def _whole(self, answer: dict[str, Any]) -> bool:
        return bool(answer)

    def _own_words(self, said: str) -> str:
        """The message that the command ends with, without the log lines before it."""
        _, found, message = said.rpartition(self._said)
        return message if found else said


class StepProcess(Process):
    """A step in a process of its own: `run` takes {"config", "run", "values"} and gives {"output", "seconds",
    "reused"}."""

    def __init__(self, name: str, interpreter: str | None = None) -> None:
        super().__init__(f"step {name}", "step", ["step", name, "--die-with-parent"], interpreter)

    def _whole(self, answer: dict[str, Any]) -> bool:
        return bool(answer.keys() & {"output", "rejected"})


def _ended(pid: int) -> bool:
    """Whether a child has ended; it stays a zombie for the one who waits for it."""
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return True


def _feed(pipe: IO[str], text: str) -> None:
    with contextlib.suppress(OSError, ValueError):  # a child that ends early shuts its end; its exit code says more
        pipe.write(text)
    with contextlib.suppress(OSError, ValueError):
        pipe.close()


def _collect(pipe: IO[str], take: Any) -> None:
    with contextlib.suppress(ValueError), pipe:
        for line in pipe:
            take(line)


def _log_line(lines: queue.SimpleQueue[str], last: deque[str], timeout: float) -> None:
    with contextlib.suppress(queue.Empty):
        line = lines.get(timeout=timeout) if timeout else lines.get_nowait()
        log.info("%s", line.rstrip("\n"))
        last.append(line.rstrip("\n"))
