"""Steps in processes of their own: nothing survives its parent, every ending is told apart."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from evergreen.process import StepProcess

from mlops.errors import EvergreenError, Rejected, UserError
from mlops.types import Check, Verdict

Interpreter = Callable[[str], str]


@pytest.fixture
def interpreter(tmp_path: Path) -> Interpreter:
    """A command line that runs the given code in place of `python`, with the step's arguments behind it."""

    def make(code: str) -> str:
        path = tmp_path / "interpreter.py"
        path.write_text("import json, os, subprocess, sys, time\n" + code)
        return f"{sys.executable} '{path}'"

    return make


def gone(pid: int, seconds: float = 5) -> bool:
    """Whether a process has ended, or does within some seconds."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.05)
    return False


def wait_for(path: Path) -> int:
    """The number that a child writes into a file."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if path.exists() and path.read_text().strip():
            return int(path.read_text())
        time.sleep(0.05)
    raise AssertionError(f"nothing wrote {path}")


def test_json_goes_in_and_comes_out(interpreter: Interpreter) -> None:
    command = interpreter("""
handed = json.load(sys.stdin)
print(json.dumps({"output": [handed["values"], sys.argv[1:], os.getsid(0) == os.getpid()], "seconds": 1, "reused": False}))
""")
    big = {"text": "x" * 3_000_000}  # more than a pipe holds, both ways
    answer = StepProcess("gate", command).run({"values": big})
    assert answer["output"] == [big, ["-m", "mlops", "step", "gate", "--die-with-parent"], True]


def test_the_interpreter_is_a_setting(interpreter: Interpreter, monkeypatch: pytest.MonkeyPatch) -> None:
    assert StepProcess("gate").command[0] == sys.executable
    monkeypatch.setenv("EVERGREEN_PYTHON", interpreter('print(json.dumps({"output": "mine"}))'))
    assert StepProcess("gate").run({}) == {"output": "mine"}
    monkeypatch.setenv("EVERGREEN_PYTHON", "/nowhere/python")
    with pytest.raises(UserError, match=r"/nowhere/python.*EVERGREEN_PYTHON"):
        StepProcess("gate").run({})


def test_stderr_is_logged_while_the_step_runs(interpreter: Interpreter) -> None:
    command = interpreter("""
print("epoch 1", file=sys.stderr, flush=True)
time.sleep(1.5)
print("epoch 2", file=sys.stderr, flush=True)
print(json.dumps({"output": None}))
""")
    heard: list[tuple[str, float]] = []
    handler = logging.Handler()
    handler.emit = lambda record: heard.append((record.getMessage(), time.monotonic()))  # type: ignore[method-assign]
    log = logging.getLogger("evergreen")
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        StepProcess("fine_tune", command).run({})
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
    assert [text for text, _ in heard] == ["epoch 1", "epoch 2"]
    assert heard[1][1] - heard[0][1] > 1


def test_a_rejection_comes_with_its_verdict(interpreter: Interpreter) -> None:
    verdict = Verdict(subject="snapshot", checks=(Check(name="rows", observed=3, allowed=20, outcome="fail"),))
    text = json.dumps({"rejected": verdict.model_dump(mode="json")})
    with pytest.raises(Rejected, match="rows observed 3, allowed 20") as caught:
        StepProcess("register", interpreter(f"print({text!r}); sys.exit(3)")).run({})
    assert caught.value.verdict == verdict


def test_a_users_mistake_is_told_in_the_steps_own_words() -> None:
    with pytest.raises(UserError) as caught:  # the real command, without values
        StepProcess("gate").run({"values": {}})
    assert "the JSON needs config, run and values" in str(caught.value)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ('print("boom", file=sys.stderr); sys.exit(1)', r"exit code 1; its last words:\nboom"),
        ("os.kill(os.getpid(), 9)", "ended by SIGKILL"),
        ('print("no json")', "found 'no json"),
        ('print("{}")', "allowed is one JSON object"),
    ],
)
def test_faults_are_ours(interpreter: Interpreter, code: str, message: str) -> None:
    with pytest.raises(EvergreenError, match=message) as caught:
        StepProcess("compress", interpreter(code)).run({})
    assert not isinstance(caught.value, UserError)


def test_a_step_that_fails_says_what_it_cost(interpreter: Interpreter) -> None:
    cost = {"seconds": 2.0, "cpu_seconds": 1.5}
    process = StepProcess("gate", interpreter(f"print(json.dumps({{'cost': {cost}}})); sys.exit(1)"))
    with pytest.raises(EvergreenError, match="exit code 1"):
        process.run({})
    assert process.cost == cost
    killed = StepProcess("gate", interpreter("os.kill(os.getpid(), 9)"))
    with pytest.raises(EvergreenError, match="SIGKILL"):
        killed.run({})
    assert killed.cost is None


def test_a_step_gets_no_setting_of_airflow(interpreter: Interpreter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY", "secret")
    command = interpreter('print(json.dumps({"output": [key for key in os.environ if key.startswith("AIRFLOW__")]}))')
    assert StepProcess("gate", command).run({})["output"] == []


STUBBORN = """
child = subprocess.Popen(["sh", "-c", "trap '' TERM; sleep 600 & wait; wait"])
open({place!r}, "w").write(str(child.pid))
import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)
time.sleep(600)
"""


def test_whatever_ends_the_task_ends_the_group(interpreter: Interpreter, tmp_path: Path) -> None:
    """As Airflow's time-out does: an exception out of a signal handler, in the middle of the step."""
    place = tmp_path / "pid"
    step = StepProcess("fine_tune", interpreter(STUBBORN.format(place=str(place))))

    def interrupt(number: int, frame: object) -> None:
        raise TimeoutError("the Airflow task timed out")

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 2)
    started = time.monotonic()
    try:
        with pytest.raises(TimeoutError):
            step.run({})
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert time.monotonic() - started < 2 + 5  # Airflow kills the task itself 5 s after SIGTERM
    assert gone(wait_for(place))
    assert step._process is not None
    assert gone(step._process.pid)


def test_a_step_that_ends_leaves_nothing_behind(interpreter: Interpreter, tmp_path: Path) -> None:
    place = tmp_path / "pid"
    command = interpreter(f"""
child = subprocess.Popen(["sleep", "600"])
open({str(place)!r}, "w").write(str(child.pid))
print(json.dumps({{"output": 1}}), flush=True)
""")
    assert StepProcess("compress", command).run({}) == {"output": 1}
    assert gone(wait_for(place))


def test_a_step_dies_with_a_killed_airflow_task(interpreter: Interpreter, tmp_path: Path) -> None:
    place = tmp_path / "pid"
    command = interpreter(f"""
from mlops.process import die_with_parent
assert "--die-with-parent" in sys.argv
die_with_parent()
open({str(place)!r}, "w").write(str(os.getpid()))
time.sleep(600)
""")
    code = f"from evergreen.process import StepProcess; StepProcess('fine_tune', {command!r}).run({{}})"
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[2] / "plugins")}
    task = subprocess.Popen([sys.executable, "-c", code], env=environment)
    pid = wait_for(place)
    assert psutil.Process(pid).ppid() == task.pid
    task.kill()
    task.wait()
    assert gone(pid)


def test_the_real_command_dies_with_its_parent(tmp_path: Path) -> None:
    """The step waits for its stdin, which this test holds open: only its parent's death can end it."""
    place = tmp_path / "pid"
    code = (
        "import subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-m', 'mlops', 'step', 'gate', '--die-with-parent'])\n"
        f"open({str(place)!r}, 'w').write(str(child.pid))\n"
        "child.wait()\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE)
    pid = wait_for(place)
    time.sleep(2)  # it has started by then and asked the kernel
    assert not gone(pid, seconds=0.2)
    parent.kill()
    parent.wait()
    assert gone(pid)
    assert parent.stdin is not None
    parent.stdin.close()
