"""Sixteen processes register and promote one model at once: on one machine, and through a registry on Postgres."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tiny import tiny_release

from mlops import ledger, promotion, reconcile, registry
from mlops.tracking import client
from mlops.types import Release

RACERS = 16


# Each has a release of its own, judged against the champion that all of them saw; every fourth one is another's once more.
def race(environment: dict[str, str], release: str, start: Any, told: Any) -> None:
    """One racer, in a process of its own."""
    os.environ.update(environment)
    from mlops.errors import EvergreenError

    start.wait(300)
    version = registry.register(Release.model_validate_json(release), {}, None).version
    try:
        told.put({"version": version, "fence": promotion.promote("tiny", version, "a race", "1")})
    except EvergreenError as error:
        told.put({"version": version, "lost": str(error), "code": error.exit_code})


def raced(environments: list[dict[str, str]], releases: list[str]) -> list[dict[str, Any]]:
    """What each racer said. They are forked from a process that has imported everything: all are off at the same moment."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["mlops.promotion", "mlops.reconcile", "mlflow.tracking"])
    start, told = context.Barrier(RACERS), context.Queue()
    arguments = zip(environments, releases, strict=True)
    racers = [context.Process(target=race, args=(*each, start, told)) for each in arguments]
    for racer in racers:
        racer.start()
    said = [told.get(timeout=500) for _ in racers]
    for racer in racers:
        racer.join(60)
    assert [racer.exitcode for racer in racers] == [0] * RACERS
    return said


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
    environments = [dict(os.environ) | {"OMP_NUM_THREADS": "1"} for _ in range(RACERS)]
    if place == "postgres":  # machines of their own: no file keeps them apart, one store is shared
        for number, environment in enumerate(environments):
            environment["EVERGREEN_HOME"] = str(home / f"machine-{number}")
            environment["EVERGREEN_STORE"] = (home / "store").as_uri()
    said = raced(environments, [release.model_dump_json() for release in releases])

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
