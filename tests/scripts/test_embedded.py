"""Ports, secrets and the environment of the embedded stack."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import embedded
import pytest
from embedded import Ports, Problem


def test_a_taken_port_is_named_with_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        monkeypatch.setenv("MLFLOW_PORT", str(port))
        with pytest.raises(Problem, match=f"port {port} is taken; set MLFLOW_PORT"):
            Ports.from_environment().check_free()


@pytest.mark.parametrize("text", ["http", "0", "70000", "-1"])
def test_a_port_that_is_none(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVE_PORT", text)
    with pytest.raises(Problem, match=f"SERVE_PORT: found '{text}'"):
        Ports.from_environment()


def test_one_port_cannot_serve_two(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVE_PORT", "9001")
    monkeypatch.setenv("AIRFLOW_PORT", "9001")
    with pytest.raises(Problem, match="same port twice"):
        Ports.from_environment()


def test_secrets_are_made_once_and_private(home: Path) -> None:
    first = embedded.environment(Ports(1, 2, 3))
    again = embedded.environment(Ports(1, 2, 3))
    for name in ("API_AUTH__JWT_SECRET", "API__SECRET_KEY", "CORE__FERNET_KEY"):
        assert first[f"AIRFLOW__{name}"] == again[f"AIRFLOW__{name}"]
    assert len(first["AIRFLOW__API_AUTH__JWT_SECRET"]) >= 64
    assert embedded.password() == embedded.password()
    private = [*(home / "airflow" / "secrets").iterdir(), home / "airflow" / "passwords.json"]
    assert len(private) == 4
    assert all(path.stat().st_mode & 0o077 == 0 for path in private)


def test_the_environment_is_local_and_quiet(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    values = embedded.environment(Ports(1, 2, 3))
    assert "PYTHONDONTWRITEBYTECODE" not in values
    assert values["AIRFLOW__API__HOST"] == "127.0.0.1"
    assert values["AIRFLOW_HOME"] == str(home / "airflow")
    assert values["AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION"] == "True"
    assert not [key for key in embedded.without_secrets(values) if key.startswith("AIRFLOW__")]


def test_demo_stays_away_from_a_running_stack(home: Path) -> None:
    import json

    from processes import birth

    home.mkdir(parents=True)
    state = {"mark": "x", "pid": os.getpid(), "birth": birth(os.getpid()), "processes": []}
    (home / "up.json").write_text(json.dumps(state))
    script = Path(embedded.__file__).with_name("demo.py")
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"`make up` runs (pid {os.getpid()})" in done.stderr
