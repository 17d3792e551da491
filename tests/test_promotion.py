"""Moves of the champion on a real MLflow store: the ledger leads, whatever crashed, was deleted or races."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from tiny import tiny_release, tiny_run

from mlops import ledger, promotion, registry
from mlops.errors import RegistryError, UserError
from mlops.reconcile import reconcile
from mlops.rollback import rollback
from mlops.steps.promote import promote as promote_step
from mlops.tracking import client
from mlops.types import Release


def register(seed: int = 0) -> Release:
    return registry.register(tiny_release(seed=seed), {}, None)


def promoted(count: int) -> list[Release]:
    """That many releases, each promoted in turn."""
    releases = [register(seed) for seed in range(count)]
    for release in releases:
        promotion.promote("tiny", release.version, "a test")
    return releases


def alias(name: str) -> str | None:
    return registry.aliased(client(), "tiny", name)


def standing() -> tuple[str | None, str | None]:
    return alias("previous"), alias("champion")


def test_forward_and_back() -> None:
    promoted(2)
    assert standing() == ("1", "2")
    assert rollback("tiny", "a test") == "1"
    assert standing() == (None, "1")
    with pytest.raises(UserError, match="no earlier release"):
        rollback("tiny", "a test")


def test_back_to_any_version_that_served_before() -> None:
    promoted(3)
    with pytest.raises(UserError, match=r"cannot go back to version 9; earlier ones are 1, 2"):
        rollback("tiny", "a test", "9")
    assert rollback("tiny", "a test", "1") == "1"
    assert ledger.serving(ledger.entries("tiny")) == ["1"]
    assert standing() == (None, "1")


def test_the_aliases_go_where_the_ledger_says() -> None:
    promoted(2)
    register(seed=9)
    client().set_registered_model_alias("tiny", "champion", "3")  # by a hand that asked nobody
    reconcile("tiny")
    assert standing() == ("1", "2")


def test_an_alias_may_be_promoted_and_the_ledger_has_its_number() -> None:
    promoted(1)
    promotion.set_candidate("tiny", register(seed=1).version)
    promotion.promote("tiny", "candidate", "approved")
    assert ledger.entries("tiny")[-1]["to"] == "2"
    reconcile("tiny")
    assert standing() == ("1", "2")


def test_a_deleted_earlier_version_stops_nothing() -> None:
    promoted(3)
    client().delete_model_version("tiny", "2")
    reconcile("tiny")
    assert standing() == ("1", "3")
    assert rollback("tiny", "a test") == "1"
    assert standing() == (None, "1")


def test_a_deleted_champion_gives_way_to_the_one_before_it() -> None:
    promoted(2)
    client().delete_model_version("tiny", "2")
    reconcile("tiny")
    assert standing() == (None, "1")
    last = ledger.entries("tiny")[-1]
    assert (last["action"], last["from"], last["to"]) == ("repair", "2", "1")
    assert "gone" in last["reason"]


def test_a_registry_without_what_served_is_no_registry_without_a_champion() -> None:
    promoted(1)
    client().delete_registered_model("tiny")
    with pytest.raises(RegistryError, match="version 1 serves, the registry has none"):
        reconcile("tiny")


def test_a_promotion_that_was_judged_against_another_champion_is_refused() -> None:
    register(0), register(1)
    promotion.promote("tiny", "1", "a test", expected_champion=None)
    with pytest.raises(UserError, match="the champion is version 1, this was judged against None"):
        promotion.promote("tiny", "2", "a test", expected_champion=None)
    with pytest.raises(UserError, match="version 1 is the champion already"):
        promotion.promote("tiny", "1", "a test")
    assert len(ledger.entries("tiny")) == 1


def test_what_was_rolled_back_comes_back_by_a_persons_word_only() -> None:
    from tiny import tiny_config, tiny_models

    first, second = promoted(2)
    other = register(seed=7)  # the same files for another configuration
    rollback("tiny", "complaints about refunds")
    run = tiny_run(tiny_models()["base"]).model_copy(update={"champion": first})
    for release in (second, other):
        judged = promote_step(tiny_config(tiny_models()["base"]), run, release)
        assert judged.outcome == "held"
        assert "complaints about refunds" in judged.reason
    assert alias("champion") == "1"
    promotion.promote("tiny", "2", "it was the network")
    assert promotion.rolled_back(other) is None


def test_a_crash_between_ledger_and_alias_is_mended_by_the_next_try() -> None:
    from tiny import tiny_config, tiny_models

    release = register()
    ledger.append("tiny", "promote", None, release.version, "a test")
    judged = promote_step(tiny_config(tiny_models()["base"]), tiny_run(tiny_models()["base"]), release)
    assert judged.outcome == "promoted"
    assert alias("champion") == release.version


def test_of_racing_promotions_one_wins_and_the_others_say_why() -> None:
    for seed in range(5):
        register(seed)
    promotion.promote("tiny", "1", "a test", None)
    code = """
import sys
from mlops import promotion
from mlops.errors import EvergreenError
try:
    print("fence", promotion.promote("tiny", sys.argv[1], "a race", "1"))
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
    assert standing() == ("1", winner)


def test_with_a_rollout_section_live_requests_decide_or_tell_the_person() -> None:
    from tiny import tiny_config, tiny_models

    from mlops import rollouts

    base = tiny_models()["base"]
    first = promoted(1)[0]
    rollout = {"min_requests": 7, "max_latency": 2.0}
    run = tiny_run(base).model_copy(update={"champion": first})
    for seed, how, outcome, decides in (
        (1, "auto", "awaiting_rollout", True),
        (2, "approval", "awaiting_approval", False),
    ):
        release = register(seed=seed)
        config = tiny_config(base, promote=how, rollout=rollout)
        assert promote_step(config, run, release).outcome == outcome
        assert registry.aliased(client(), "tiny", "candidate") == release.version
        rules = rollouts.rules_of("tiny", release.version)
        assert (rules.min_requests, rules.max_latency, rules.promote) == (7, 2.0, decides)
        assert standing() == (None, "1")
    alone = tiny_run(base)  # the first champion has nothing to be tried beside
    assert promote_step(tiny_config(base, promote="auto", rollout=rollout), alone, register(seed=3)).outcome == "held"


def test_holds_and_approvals_are_written_down_once() -> None:
    from tiny import tiny_config, tiny_models

    base = tiny_models()["base"]
    first = promoted(1)[0]
    release = register(seed=1)
    run = tiny_run(base).model_copy(update={"champion": first})
    config = tiny_config(base, promote="approval")
    for _ in range(2):  # the second is the try after a crash
        assert promote_step(config, run, release).outcome == "awaiting_approval"
    (hold,) = ledger.entries("tiny")[1:]
    assert (hold["action"], hold["from"], hold["to"], len(hold["verdicts"])) == ("hold", "1", "2", 3)
    assert run.retrain_id in hold["reason"]
    assert list(ledger.waiting(ledger.entries("tiny"))) == ["2"]
    assert ledger.serving(ledger.entries("tiny")) == ["1"]
    promotion.promote("tiny", "2", "looks good", who="ann")
    told = [(entry["action"], entry["who"], entry["from"], entry["to"]) for entry in ledger.entries("tiny")[2:]]
    assert told == [("approve", "ann", "1", "2"), ("promote", "ann", "1", "2")]
    assert ledger.waiting(ledger.entries("tiny")) == {}
    assert standing() == ("1", "2")


def test_a_move_that_was_decided_on_an_older_ledger_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer that lost its lock between looking and writing."""
    promoted(1)
    register(seed=1)
    known = ledger.entries("tiny")
    ledger.append("tiny", "hold", "1", "2", "meanwhile")
    monkeypatch.setattr(ledger, "entries", lambda name: known)
    with pytest.raises(RegistryError, match="had 1 entries a moment ago, now 2: run again"):
        promotion.promote("tiny", "2", "a test")
    assert alias("champion") == "1"
