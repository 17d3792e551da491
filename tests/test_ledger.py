"""The ledger: what serves follows from its entries alone, and a changed entry is noticed."""

from __future__ import annotations

import datetime
import json
import threading
from pathlib import Path

import pytest

from mlops import ledger
from mlops.errors import RegistryError


def promote(version: str, before: str | None = None) -> int:
    return ledger.append("tiny", "promote", before, version, "a test", ["digest"])


def test_entries_come_back_in_order_with_everything_in_them() -> None:
    assert ledger.entries("tiny") == []
    assert [promote("1"), promote("2", "1")] == [1, 2]
    first, second = ledger.entries("tiny")
    assert (first["seq"], first["action"], first["from"], first["to"]) == (1, "promote", None, "1")
    assert (second["from"], second["to"], second["reason"], second["verdicts"]) == ("1", "2", "a test", ["digest"])
    assert first["previous_sha256"] == ""
    assert len(second["previous_sha256"]) == 64
    assert first["who"]
    assert first["when"].endswith("+00:00")
    assert ledger.entries("another") == []


def test_a_changed_entry_breaks_the_chain(home: Path) -> None:
    for version in ("1", "2", "3"):
        promote(version)
    path = next(path for path in home.rglob("000002*") if path.is_file())
    entry = json.loads(path.read_text())
    path.write_text(json.dumps(entry | {"to": "9"}))
    with pytest.raises(RegistryError, match="broken at entry 3"):
        ledger.entries("tiny")


def test_what_serves_is_a_stack() -> None:
    promote("1")
    promote("2", "1")
    promote("3", "2")
    assert ledger.serving(ledger.entries("tiny")) == ["1", "2", "3"]
    ledger.append("tiny", "rollback", "3", "2", "a test")
    assert ledger.serving(ledger.entries("tiny")) == ["1", "2"]
    promote("1", "2")  # by hand, back to an old one: a rollback from it leads to what served before
    assert ledger.serving(ledger.entries("tiny")) == ["2", "1"]


def test_what_served_at_a_time_follows_from_the_entries_until_then() -> None:
    times = [f"2026-03-0{day}T12:00:00+00:00" for day in (1, 2, 3, 4)]
    moves = [("promote", None, "1"), ("promote", "1", "2"), ("rollback", "2", "1"), ("promote", "1", "3")]
    known = [
        {"action": action, "from": before, "to": after, "when": when}
        for (action, before, after), when in zip(moves, times, strict=True)
    ]

    def at(text: str) -> str | None:
        return ledger.served_at(known, datetime.datetime.fromisoformat(text))

    assert at("2026-03-01T11:59:59+00:00") is None
    assert [at(when) for when in times] == ["1", "2", "1", "3"]
    assert at("2026-03-02T13:30:00+02:00") == "1"  # that is 11:30 in UTC
    assert at("2027-01-01T00:00:00+00:00") == "3"


def test_of_racing_writers_one_takes_a_number() -> None:
    promote("1")
    outcomes: list[str] = []
    gate = threading.Barrier(8)

    def race(version: int) -> None:
        gate.wait()
        try:
            outcomes.append(f"entry {promote(str(version))}")
        except RegistryError as error:
            outcomes.append(str(error))

    threads = [threading.Thread(target=race, args=(number,)) for number in range(2, 10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    known = ledger.entries("tiny")  # raises where the chain is broken
    written = sorted(outcome for outcome in outcomes if outcome.startswith("entry ") and "written by" not in outcome)
    assert written == sorted(f"entry {number}" for number in range(2, len(known) + 1))
    assert all("another run" in outcome for outcome in outcomes if outcome not in written)
