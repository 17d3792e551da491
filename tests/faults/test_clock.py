"""A clock that is moved by ten minutes, between moves and while a lock is held: order comes from numbers, not from times."""

from __future__ import annotations

import datetime
import json
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from outcomes import empty_registry, end, row
from tiny import tiny_config, tiny_release

from mlops import ledger, promotion, reconcile, registry
from mlops.blobs import LocalBlobs
from mlops.cli import main
from mlops.data.window import choose
from mlops.errors import RegistryError
from mlops.leases import lease
from mlops.rollback import rollback
from mlops.store import open_store

MINUTES = 60.0
Move = Callable[[float], None]


@pytest.fixture
def move(monkeypatch: pytest.MonkeyPatch) -> Move:
    """Moves this process's clock, as a person or a time server does: to so many seconds from the true time."""
    real, shift = time.time, [0.0]

    class Moved(datetime.datetime):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> datetime.datetime:  # type: ignore[override]
            return datetime.datetime.fromtimestamp(real() + shift[0], tz)

    monkeypatch.setattr(time, "time", lambda: real() + shift[0])
    monkeypatch.setattr(ledger.datetime, "datetime", Moved)  # the module's own name for it: the whole process's

    def to(seconds: float) -> None:
        shift[0] = seconds

    return to


def publish(seed: int) -> str:
    version = registry.register(tiny_release(seed=seed), {}, None).version
    promotion.promote("tiny", version, "a test")
    return version


def at(minutes: float, capsys: pytest.CaptureFixture[str]) -> str | None:
    """What `mlops releases --at` says of a time so many minutes from the true one."""
    when = datetime.datetime.fromtimestamp(time.monotonic() - BEGAN[1] + BEGAN[0] + minutes * MINUTES, datetime.UTC)
    capsys.readouterr()
    assert main(["releases", "tiny", "--at", when.isoformat(timespec="seconds"), "--json"]) == 0
    found: str | None = json.loads(capsys.readouterr().out)["version"]
    return found


BEGAN = (time.time(), time.monotonic())


def test_moves_keep_their_order_whatever_the_clock_says(move: Move, capsys: pytest.CaptureFixture[str]) -> None:
    empty_registry()
    publish(0)
    move(10 * MINUTES)
    publish(1)
    move(-10 * MINUTES)
    publish(2)
    move(0)
    rollback("tiny", "a test")  # to the version whose promotion seems to lie ahead
    known = ledger.entries("tiny")
    assert [entry["to"] for entry in known] == ["1", "2", "3", "2"]
    times = [datetime.datetime.fromisoformat(entry["when"]) for entry in known]
    assert times != sorted(times)
    # Whoever asks for a time between the wrong ones gets a version that served, never none.
    assert at(-15, capsys) is None
    assert at(1, capsys) == at(11, capsys) == "2"
    left = end("tiny", ["1", "2", "3"], "2", [("promote", "1"), ("promote", "2"), ("promote", "3"), ("rollback", "2")])
    row("the clock moves by 10 minutes, on and back", "between promotions", "promoted, in their order", left)


@pytest.mark.parametrize("minutes", [10, -10])
def test_a_lease_is_neither_stolen_nor_kept_by_a_clock(move: Move, minutes: float, tmp_path: Path) -> None:
    blobs = LocalBlobs(tmp_path)
    ended: list[str] = []

    def other() -> None:
        try:
            with lease(blobs, "locks/a", 1.5, term=20):
                ended.append("stolen")
        except RegistryError as error:
            ended.append(str(error))

    with lease(blobs, "locks/a", 5, term=20) as held:
        waiting = threading.Thread(target=other)
        waiting.start()
        move(minutes * MINUTES)
        waiting.join(20)
        held()
    assert "is held by" in ended[0]
    began = time.monotonic()
    with lease(blobs, "locks/a", 5, term=20):
        assert time.monotonic() - began < 2
    if minutes > 0:
        row("the clock moves by 10 minutes, on or back", "a lock is held", "kept, and given back at once", 0)


@pytest.mark.parametrize("minutes", [10, -10])
def test_what_is_young_stays_somebodys_work(move: Move, minutes: float) -> None:
    empty_registry()
    open_store().blobs.write(f"model/{'a' * 64}/weights.bin", b"half of it")
    move(minutes * MINUTES)
    assert reconcile.reconcile("tiny") == []


def test_a_window_and_its_watermark_are_those_of_the_rows(tmp_path: Path) -> None:
    """The newest row may lie ahead of a clock that is late."""
    now = np.datetime64("2026-03-01T12:00:00")
    times = [str(now - np.timedelta64(minutes, "m")) + "Z" for minutes in (0, 5, 30, 3 * 24 * 60)]
    pq.write_table(pa.table({"time": times}), tmp_path / "rows.parquet")
    window = {"source": "rows.jsonl", "window": {"column": "time", "last": "2d"}}
    data = tiny_config(tmp_path, data=window).data
    found = [choose(tmp_path / "rows.parquet", data, now + np.timedelta64(ten, "m")) for ten in (-10, 0, 10)]
    assert [each.kept.tolist() for each in found] == [[True, True, True, False]] * 3
    assert {each.watermark for each in found} == {"2026-03-01T12:00:00Z"}
    assert found[0].window == found[1].window == found[2].window
    assert not any(each.problems for each in found)
