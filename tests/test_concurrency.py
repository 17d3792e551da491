"""Sixteen processes register and promote one model at once: on one machine, and through a registry on Postgres."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tiny import tiny_release

from mlops import ledger, promotion, reconcile, registry
from mlops.tracking import client

RACERS = 16
# Each has a release of its own, judged against the champion that all of them saw; every fourth one is another's once more.
_RACE = """
import json, sys
from mlops import promotion, registry
from mlops.errors import EvergreenError
from mlops.types import Release
release = Release.model_validate_json(sys.stdin.readline())
version = registry.register(release, {}, None).version
try:
    said = {"version": version, "fence": promotion.promote("tiny", version, "a race", "1")}
except EvergreenError as error:
    said = {"version": version, "lost": str(error), "code": error.exit_code}
print(json.dumps(said))
"""


@pytest.fixture(params=["one machine", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Where the racers' registry and lock are."""
    if request.param == "one machine":
        yield "file"
        return
    from servers import postgres

    (tmp_path / "server").mkdir()
    with postgres(tmp_path / "server") as url:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", url)
        monkeypatch.setenv("EVERGREEN_LOCK", url)
        yield "postgres"


def test_of_sixteen_one_is_champion_and_every_loser_says_why(place: str, home: Path) -> None:
    registry.register(tiny_release(seed=100), {}, None)
    promotion.promote("tiny", "1", "a test", None)
    releases = [tiny_release(seed=number - number % 4 // 3, replaces="1") for number in range(RACERS)]
    racers = []
    for number in range(RACERS):
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        if place == "postgres":  # machines of their own: no file keeps them apart, one store is shared
            environment |= {
                "EVERGREEN_HOME": str(home / f"machine-{number}"),
                "EVERGREEN_STORE": (home / "store").as_uri(),
            }
        command = [sys.executable, "-c", _RACE]
        racers.append(
            subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env=environment,
            )
        )
    for racer, release in zip(racers, releases, strict=True):
        assert racer.stdin is not None
        racer.stdin.write(release.model_dump_json() + "\n")
        racer.stdin.flush()  # all of them have theirs before the first is waited for
    ended = [racer.communicate(timeout=500) for racer in racers]
    assert all(out.strip() for out, _ in ended), [err[-1500:] for out, err in ended if not out.strip()][:2]
    said = [json.loads(out.splitlines()[-1]) for out, _ in ended]

    winners = [entry for entry in said if "fence" in entry]
    losers = [entry for entry in said if "lost" in entry]
    assert (len(winners), len(losers)) == (1, RACERS - 1)
    winner = winners[0]["version"]
    for entry in losers:
        reason = (
            "is the champion already"
            if entry["version"] == winner and "already" in entry["lost"]
            else "judged against 1"
        )
        assert reason in entry["lost"], entry
        assert entry["code"] == 2
    # Twelve releases, each registered once although four were tried twice; all whole.
    rows = registry.releases("tiny")
    assert [row["state"] for row in rows] == ["complete"] * 13
    assert {entry["version"] for entry in said} | {"1"} == {row["version"] for row in rows}
    assert len({registry.at("tiny", row["version"]).model.config_sha256 for row in rows}) == 13
    # One chain, one champion, and nothing for a repair to do.
    assert [(entry["action"], entry["to"]) for entry in ledger.entries("tiny")] == [
        ("promote", "1"),
        ("promote", winner),
    ]
    assert registry.aliased(client(), "tiny", "champion") == winner
    assert registry.aliased(client(), "tiny", "previous") == "1"
    assert reconcile.reconcile("tiny", older_than_seconds=0) == []
