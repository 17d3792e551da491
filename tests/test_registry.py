"""The registry on a real MLflow store: idempotent registration, refusals, repairs, racing promotions."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tiny import tiny_release

from mlops import ledger, registry
from mlops.errors import NotFound, RegistryError, Rejected, UserError
from mlops.tracking import client
from mlops.types import Check, Release, Verdict


def register(release: Release) -> Release:
    return registry.register(release, {"evergreen.metric": "1.0"}, None)


def alias(name: str) -> str | None:
    return registry._alias(client(), "tiny", name)


def test_a_release_is_registered_once_however_often_it_is_tried() -> None:
    first = register(tiny_release())
    assert first.version == "1"
    assert register(tiny_release()) == first
    assert register(tiny_release(seed=1)).version == "2"
    assert [row["state"] for row in registry.releases("tiny")] == ["complete", "complete"]
    assert registry.at("tiny", "1") == first
    assert registry.champion("tiny") is None  # registered is not promoted


@pytest.mark.parametrize("missing", ["snapshot", "candidate", "fp32"])
def test_without_every_verdict_nothing_is_registered(missing: str) -> None:
    release = tiny_release()
    judged = tuple(verdict for verdict in release.verdicts if verdict.subject != missing)
    with pytest.raises(Rejected, match=missing):
        register(release.model_copy(update={"verdicts": judged}))
    failed = Verdict(subject=missing, checks=(Check(name="made", observed=1, allowed=0, outcome="fail"),))
    with pytest.raises(Rejected, match="made observed 1, allowed 0"):
        register(release.model_copy(update={"verdicts": (*judged, failed)}))
    assert registry.names() == []


def test_the_file_that_was_judged_is_the_file_that_is_registered() -> None:
    release, other = tiny_release(), tiny_release("int8")
    with pytest.raises(RegistryError, match=r"is not the one that was judged"):
        register(release.model_copy(update={"model": other.model}))
    assert registry.names() == []


def test_a_half_version_cannot_be_used_and_goes_at_the_next_start() -> None:
    register(tiny_release())
    registry.promote("tiny", "1", "a test")
    client().create_model_version("tiny", source="file:///nowhere")
    assert [row["state"] for row in registry.releases("tiny")] == ["complete", "half"]
    with pytest.raises(RegistryError, match="version 2 was never finished"):
        registry.promote("tiny", "2", "by hand")
    registry.repair("tiny")
    assert [row["version"] for row in registry.releases("tiny")] == ["1"]
    assert alias("champion") == "1"


def test_the_aliases_go_where_the_ledger_says() -> None:
    for seed in range(3):
        register(tiny_release(seed=seed))
    registry.promote("tiny", "1", "a test")
    registry.promote("tiny", "2", "a test")
    assert (alias("previous"), alias("champion")) == ("1", "2")
    client().set_registered_model_alias("tiny", "champion", "3")  # by a hand that asked nobody
    registry.repair("tiny")
    assert (alias("previous"), alias("champion")) == ("1", "2")
    assert registry.rollback("tiny", "a test") == "1"
    assert (alias("previous"), alias("champion")) == (None, "1")
    with pytest.raises(UserError, match="no earlier release"):
        registry.rollback("tiny", "a test")


def test_a_promotion_that_was_judged_against_another_champion_is_refused() -> None:
    for seed in range(2):
        register(tiny_release(seed=seed))
    registry.promote("tiny", "1", "a test", expected_champion=None)
    with pytest.raises(UserError, match="the champion is version 1, this was judged against None"):
        registry.promote("tiny", "2", "a test", expected_champion=None)
    with pytest.raises(UserError, match="version 1 is the champion already"):
        registry.promote("tiny", "1", "a test")
    assert len(ledger.entries("tiny")) == 1


def test_unknown_names_say_what_there_is() -> None:
    with pytest.raises(NotFound, match="models: none"):
        registry.at("tiny", "champion")
    register(tiny_release())
    with pytest.raises(NotFound, match=r"'9'; versions: 1; models: tiny"):
        registry.at("tiny", "9")


def test_of_racing_promotions_one_wins_and_the_others_say_why(tmp_path: Path) -> None:
    for seed in range(5):
        register(tiny_release(seed=seed))
    registry.promote("tiny", "1", "a test", None)
    code = """
import sys
from mlops import registry
from mlops.errors import EvergreenError
try:
    print("fence", registry.promote("tiny", sys.argv[1], "a race", "1"))
except EvergreenError as error:
    print("lost:", error)
"""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    racers = [
        subprocess.Popen([sys.executable, "-c", code, version], stdout=subprocess.PIPE, text=True, env=environment)
        for version in ("2", "3", "4", "5")
    ]
    said = [racer.communicate(timeout=120)[0].strip() for racer in racers]
    assert sorted(line.split()[0] for line in said) == ["fence", "lost:", "lost:", "lost:"], said
    assert all("judged against 1" in line for line in said if line.startswith("lost"))
    winner = str(2 + next(number for number, line in enumerate(said) if line.startswith("fence")))
    assert [entry["to"] for entry in ledger.entries("tiny")] == ["1", winner]
    assert (alias("previous"), alias("champion")) == ("1", winner)
