"""MLflow's SQLite database in the hands of another process: waited for, and an error that says so where it takes too long."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow.exceptions import MlflowException
from outcomes import empty_registry, end, row
from sqlalchemy import event
from sqlalchemy.engine import Engine
from tiny import tiny_release

from mlops import ledger, promotion, registry
from mlops.cli import main
from mlops.tracking import client

_HOLD = """
import sqlite3, sys, time
database = sqlite3.connect(sys.argv[1], isolation_level=None)
database.execute("BEGIN EXCLUSIVE")
print("held", flush=True)
time.sleep(float(sys.argv[2]))
"""


class Holder:
    """Takes the whole database in a process of its own, for so many seconds or until `end`."""

    def __init__(self, path: Path) -> None:
        self.path, self.process = path, None

    def take(self, seconds: float) -> None:
        command = [sys.executable, "-c", _HOLD, str(self.path), str(seconds)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "held\n"

    def end(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait(10)


@pytest.fixture
def holder() -> Iterator[Holder]:
    found = Holder(empty_registry())
    yield found
    found.end()


@pytest.fixture
def impatient() -> Iterator[None]:
    """MLflow waits for a locked database for 20 s; here for 0.3 s."""

    def shorter(_c: Any, _k: Any, statement: str, given: Any, _x: Any, _m: bool) -> tuple[str, Any]:
        return statement.replace("busy_timeout = 20000", "busy_timeout = 300"), given

    event.listen(Engine, "before_cursor_execute", shorter, retval=True)
    yield
    event.remove(Engine, "before_cursor_execute", shorter)


def register(seed: int = 0) -> str:
    return registry.register(tiny_release(seed=seed), {}, None).version


def test_a_database_that_is_held_for_seconds_is_waited_for(holder: Holder) -> None:
    tiny_release()  # made before, so that it takes no time of what follows
    client().search_registered_models()
    began = time.monotonic()
    holder.take(3)
    promotion.promote("tiny", register(), "a test")
    assert time.monotonic() - began > 2.9
    row("SQLite is locked for 3 s", "`register`", "promoted", end("tiny", ["1"], "1", [("promote", "1")]))


@pytest.mark.parametrize("place", ["ledger", "version"])
def test_one_that_stays_held_is_an_error_that_says_so_and_the_next_try_ends_it(
    place: str, holder: Holder, impatient: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Held from a commit point on: after the ledger's entry and before the alias, after the upload and before the version."""
    promotion.promote("tiny", register(), "a test")
    owner, name = {"ledger": (ledger, "append"), "version": (registry, "upload")}[place]
    if place == "ledger":
        register(seed=1)
    real = getattr(owner, name)

    def then_held(*arguments: Any, **named: Any) -> Any:
        found = real(*arguments, **named)
        holder.take(120)
        return found

    monkeypatch.setattr(owner, name, then_held)
    if place == "ledger":
        assert main(["promote", "tiny", "2", "--reason", "a test"]) == 1
        said = capsys.readouterr().err
        assert "database is locked" in said.split("mlops promote:")[-1]
        assert main(["reconcile", "tiny"]) == 1  # it cannot yet either, and says why
        assert "database is locked" in capsys.readouterr().err
    else:
        with pytest.raises(MlflowException, match="database is locked"):
            register(seed=1)
    monkeypatch.setattr(owner, name, real)
    holder.end()
    if place == "version":
        assert registry.champion("tiny").version == "1"  # type: ignore[union-attr]
        promotion.promote("tiny", register(seed=1), "a test")
    left = end("tiny", ["1", "2"], "2", [("promote", "1"), ("promote", "2")])
    assert left > 0
    during, ends = {
        "ledger": ("`promote`, after the ledger", "failed; promoted by `mlops reconcile`"),
        "version": ("`register`, after the upload", "failed; promoted when tried again"),
    }[place]
    row("SQLite is locked for longer than is waited", during, ends, left)
