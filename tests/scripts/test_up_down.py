"""`make up` comes up whole and goes away whole; `make down` finds what a crash left and nothing else."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import psutil

SCRIPTS = Path(__file__).resolve().parent.parent.parent / "scripts"
NAMES = ("AIRFLOW_PORT", "MLFLOW_PORT", "SERVE_PORT")


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [int(each.getsockname()[1]) for each in sockets]
    for each in sockets:
        each.close()
    return ports


def marked(mark: str) -> list[psutil.Process]:
    """Living processes that carry a stack's mark."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.status() != psutil.STATUS_ZOMBIE and process.environ().get("EVERGREEN_UP") == mark:
                found.append(process)
        except psutil.Error:
            continue
    return found


def get(url: str, data: dict[str, Any] | None = None, token: str = "") -> Any:
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    body = json.dumps(data).encode() if data is not None else None
    with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=10) as response:
        return json.loads(response.read())


def run_until(process: subprocess.Popen[str], text: str) -> str:
    """What a process says up to a line with the text."""
    assert process.stdout is not None
    said = ""
    for line in process.stdout:
        said += line
        if text in line:
            return said
    raise AssertionError(f"it ended without {text!r}:\n{said}")


def test_up_comes_up_and_ctrl_c_leaves_nothing(home: Path) -> None:
    ports = dict(zip(NAMES, map(str, free_ports(3)), strict=True))
    environment = {key: value for key, value in os.environ.items() if not key.startswith("AIRFLOW_")} | ports
    up = subprocess.Popen(
        [sys.executable, str(SCRIPTS / "up.py")],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        said = run_until(up, "Ctrl-C stops everything")
        mark = json.loads((home / "up.json").read_text())["mark"]
        processes = marked(mark)
        assert len(processes) >= 6
        address = f"http://127.0.0.1:{ports['AIRFLOW_PORT']}"
        password = said.partition("password ")[2].split()[0]
        token = get(f"{address}/auth/token", {"username": "admin", "password": password})["access_token"]
        deadline = time.monotonic() + 60  # the files are parsed once more after the processor says that it is well
        while len(dags := get(f"{address}/api/v2/dags", token=token)["dags"]) < 4 and time.monotonic() < deadline:
            time.sleep(0.5)
        paused = {dag["dag_id"]: dag["is_paused"] for dag in dags}
        assert paused == {"retrain_news-topics": True, "compare": False, "maintenance": True, "rollback": False}
        addresses = {
            found.laddr for process in processes for found in process.net_connections() if found.status == "LISTEN"
        }
        assert {found.ip for found in addresses} == {"127.0.0.1"}
        assert {found.port for found in addresses} <= set(map(int, ports.values()))
        up.send_signal(signal.SIGINT)
        started = time.monotonic()
        assert up.wait(timeout=30) == 0
        assert time.monotonic() - started < 20
        assert marked(mark) == []
        assert not (home / "up.json").exists()
    finally:
        if up.poll() is None:
            up.kill()
        subprocess.run([sys.executable, str(SCRIPTS / "down.py")], env=environment, check=False)


CRASH = """
import os, sys, time
sys.path.insert(0, {scripts!r})
from processes import Group
group = Group()
group.start("one", [sys.executable, "-c", {parent!r}], dict(os.environ))
time.sleep(2)
os.kill(os.getpid(), 9)
"""
# A worker as Airflow starts them: a session of its own, deaf to SIGTERM, with another title.
PARENT = """
import subprocess, sys, time
child = '''
import signal, time, setproctitle
signal.signal(signal.SIGTERM, signal.SIG_IGN)
setproctitle.setproctitle("x" * 4000)
time.sleep(600)
'''
subprocess.Popen([sys.executable, "-c", child], start_new_session=True)
time.sleep(600)
"""


def test_down_finds_what_a_crash_left_and_nothing_else(home: Path) -> None:
    code = CRASH.format(scripts=str(SCRIPTS), parent=PARENT)
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGKILL
    state_file = home / "up.json"
    state = json.loads(state_file.read_text())
    left = marked(state["mark"])
    assert len(left) == 1  # the kernel ended the one that "up" had started itself, not the worker below it
    innocent = subprocess.Popen(["sleep", "600"])
    try:
        # The system has given a pid of the crashed stack to somebody else.
        state["processes"].append({"name": "reused", "pid": innocent.pid, "birth": "another boot:1"})
        state_file.write_text(json.dumps(state))
        done = subprocess.run([sys.executable, str(SCRIPTS / "down.py")], capture_output=True, text=True, check=True)
        assert "cleaned up: 1 processes" in done.stdout
        assert marked(state["mark"]) == []
        assert innocent.poll() is None
    finally:
        innocent.kill()
        innocent.wait()
    assert not state_file.exists()
    done = subprocess.run([sys.executable, str(SCRIPTS / "down.py")], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "nothing to stop"
