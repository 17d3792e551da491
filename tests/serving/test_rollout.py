"""The candidate beside the champion under requests: who answers, what is asked aside, what is written at the end."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from running import publish, serving
from served import release, runtime, still
from tiny import tiny_release, tiny_rows

from mlops import ledger, promotion, registry, rollouts
from mlops.config_rollout import RolloutSection
from mlops.serving.predictions import PredictionLog, read
from mlops.serving.queueing import Job
from mlops.serving.releases import Served
from mlops.serving.rollout import Mode, Rollout
from mlops.serving.service import Service
from mlops.store import open_store
from mlops.tracking import client

TEXTS = [row["text"] for row in tiny_rows(100, seed=8)]
QUICK = RolloutSection(min_requests=20, max_error_rate=0.2, max_latency=20)


class Other:
    """The tiny model with something changed."""

    def __init__(self, fails: Callable[[], bool] = lambda: False, labels: tuple[str, ...] | None = None) -> None:
        self._runtime, self._fails = runtime(), fails
        self.labels = labels or self._runtime.labels

    def __getattr__(self, name: str) -> Any:
        return getattr(self._runtime, name)

    def compute(self, encoded: Any) -> Any:
        if self._fails():
            raise RuntimeError("out of memory")
        return self._runtime.compute(encoded)


class Ends:
    """What was settled."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []

    def __call__(self, *what: Any) -> str:
        self.told.append(what)
        return str(what[4])


@contextmanager
def rolling(
    candidate: Served, mode: Mode = "canary", share: float | None = None, rules: RolloutSection = QUICK, **more: Any
) -> Iterator[tuple[Service, Rollout, Ends]]:
    champion, ends = still(release("1")), Ends()
    rollout = Rollout(champion, still(candidate), mode, share, rules=lambda *_: rules, settle=ends, **more)
    service = Service(rollout.choose, beside=rollout)
    service.start()
    rollout.start()
    until(lambda: rollout.told()["trial"] is not None)
    try:
        yield service, rollout, ends
    finally:
        service.stop()
        rollout.stop()


def until(true: Callable[[], bool], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.02)


def ask(service: Service, texts: list[str], **more: Any) -> list[Job]:
    """One after the other, as a server that is idle now and then sees them."""

    async def each() -> list[Job]:
        return [await service.ask([text], 20, **more) for text in texts]

    return asyncio.run(each())


def version(job: Job) -> str:
    assert job.served is not None
    return job.served.version


def test_a_share_is_answered_by_the_candidate_and_a_sticky_id_always_by_the_same() -> None:
    with rolling(release("2"), share=0.3, rules=RolloutSection()) as (service, _, _):
        versions = Counter(version(job) for job in ask(service, TEXTS[:1] * 300))
        assert 55 <= versions["2"] <= 125
        assert versions["1"] == 300 - versions["2"]
        users = {f"user {number}": set[str]() for number in range(60)}
        for name, seen in users.items():
            seen |= {version(job) for job in ask(service, TEXTS[:3], sticky=name)}
        assert all(len(seen) == 1 for seen in users.values())
        assert 6 <= sum(seen == {"2"} for seen in users.values()) <= 30
        assert {version(job) for job in ask(service, TEXTS, pinned=True)} == {"1"}


def test_a_good_candidate_passes_by_pairs_and_gets_no_more_requests_until_it_serves() -> None:
    with rolling(release("2"), share=0.5) as (service, rollout, ends):
        until(lambda: bool(ask(service, TEXTS) and ends.told))
        name, champion, candidate, rules, outcome, verdict, who = ends.told[0]
        assert (name, champion, candidate, outcome) == ("tiny", "1", "2", "passed")
        assert rules is QUICK
        assert verdict.outcome == "pass"
        assert who.startswith("server ")
        assert {version(job) for job in ask(service, TEXTS)} == {"1"}
        told = rollout.told()
        assert told["settled"] == [{"champion": "1", "candidate": "2", "what": "passed"}]
        assert told["trial"]["pairs"] >= 20
        assert told["counts"]["failed"] == 0
        assert len(ends.told) == 1


def test_nobody_sees_a_failing_candidate_and_it_fails_the_trial() -> None:
    bad = Served("tiny", "2", "fp32", Other(fails=lambda: True))  # type: ignore[arg-type]
    with rolling(bad, share=0.5) as (service, rollout, ends):
        jobs = ask(service, TEXTS)
        assert {version(job) for job in jobs} == {"1"}
        assert all(job.answers and job.error is None for job in jobs)
        until(lambda: bool(ends.told))
        assert ends.told[0][4] == "failed"
        assert [check.outcome for check in ends.told[0][5].checks if check.name == "rollout errors"] == ["fail"]
        failed = rollout.counts["failed"]
        assert 5 <= failed <= 60
        ask(service, TEXTS)
        assert rollout.counts["failed"] == failed


def test_a_request_of_several_texts_is_answered_whole_by_the_champion_when_the_candidate_fails_halfway() -> None:
    calls = iter([False, True, *[False] * 10_000])
    half = Served("tiny", "2", "fp32", Other(fails=lambda: next(calls)))  # type: ignore[arg-type]
    expected = [answer["label"] for answer in runtime().predict(TEXTS)]
    with rolling(half, share=1.0) as (service, _, _):
        service._budget = 64  # several calls for one request
        job = asyncio.run(service.ask(TEXTS, 20))
        assert version(job) == "1"
        assert [answer["label"] for answer in job.answers] == expected


@pytest.mark.parametrize("mode", ["canary", "shadow"])
def test_one_that_answers_otherwise_fails(mode: Mode) -> None:
    turned = Served("tiny", "2", "fp32", Other(labels=runtime().labels[::-1]))  # type: ignore[arg-type]
    with rolling(turned, mode, share=0.5) as (service, _, ends):
        until(lambda: bool(ask(service, TEXTS) and ends.told))
        assert ends.told[0][4] == "failed"
        assert ends.told[0][5].checks[0].outcome == "fail"


def test_a_shadow_answers_nobody_and_stands_in_the_prediction_log() -> None:
    log = PredictionLog(open_store(), "tiny", "hash", part_seconds=0.2)
    log.start()
    with rolling(release("2"), "shadow", share=1.0, predictions=log) as (service, _, ends):
        jobs = [job for text in TEXTS[:40] for job in ask(service, [text], request_id=f"request of {text}")]
        assert {version(job) for job in jobs} == {"1"}
        until(lambda: bool(ask(service, TEXTS) and ends.told))
        assert ends.told[0][4] == "passed"
    log.stop()
    rows = read(open_store(), "tiny").to_pylist()
    assert {(row["role"], row["version"]) for row in rows} == {("shadow", "2")}
    assert {row["request_id"] for row in rows if row["request_id"]} <= {f"request of {text}" for text in TEXTS[:40]}
    assert any(row["request_id"] for row in rows)


def test_a_registry_that_is_away_at_the_end_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlops.serving.rollout.RETRY_SECONDS", 0.1)
    tries: list[int] = []

    def settle(*_: Any) -> str:
        tries.append(1)
        if len(tries) < 3:
            raise ConnectionError("no route to host")
        return "promoted"

    with rolling(release("2"), share=1.0) as (service, rollout, _):
        rollout._settle = settle
        until(lambda: bool(ask(service, TEXTS) and len(tries) == 3))
        until(lambda: rollout.told()["settled"] != [])


def candidate(champion: str, seed: int, rules: RolloutSection | None = None) -> str:
    version = registry.register(tiny_release(replaces=champion, seed=seed), {}, None).version
    if rules:
        rollouts.begin("tiny", version, rules)
    else:
        promotion.set_candidate("tiny", version)
    return version


def settled(champion: str, version: str, outcome: str = "passed") -> str:
    from mlops.serving.trial import Pair, Trial

    trial = Trial(champion, version, QUICK)
    trial.add(Pair(({"label": "a"},), ({"label": "a"},)))
    rules = rollouts.rules_of("tiny", version)
    return rollouts.settle("tiny", champion, version, rules, outcome, trial.verdict(), "server x")  # type: ignore[arg-type]


def aliases() -> tuple[str | None, str | None]:
    return registry.aliased(client(), "tiny", "champion"), registry.aliased(client(), "tiny", "candidate")


def test_what_becomes_of_a_candidate_is_in_the_ledger_with_the_trial() -> None:
    first = publish()
    second = candidate(first, 1, QUICK)
    assert rollouts.rules_of("tiny", second) == QUICK
    assert "rollout passed beside version 1: agreement 1.0" in settled(first, second)
    assert aliases() == (second, None)
    entry = ledger.entries("tiny")[-1]
    assert (entry["action"], entry["from"], entry["to"], entry["who"]) == ("promote", first, second, "server x")
    assert len(entry["verdicts"]) == 4  # the release's own three, and the trial's
    assert settled(first, second) == f"version {second} serves already"

    third = candidate(second, 2, QUICK)
    assert settled(second, third, "failed").startswith(f"rollout failed beside version {second}")
    assert aliases() == (second, None)
    assert ledger.entries("tiny")[-1]["action"] == "hold"
    documents = open_store().list_documents("rollouts/tiny")
    assert len(documents) == 2

    fourth = candidate(first, 3, QUICK)
    assert "it was judged against version 1, the champion is 2" in settled(second, fourth)
    assert aliases() == (second, None)

    fifth = candidate(second, 4)  # waits for a person: no rules of a pipeline file
    assert not rollouts.rules_of("tiny", fifth).promote
    assert "waits for a person" in settled(second, fifth)
    assert aliases() == (second, fifth)
    assert promotion.promote("tiny", fifth, "looks good")
    assert aliases() == (fifth, None)


def test_a_server_takes_a_candidate_in_tries_it_and_promotes_it_by_itself(tmp_path: Path) -> None:
    first = publish()
    with serving(tmp_path, "--canary", "50%", "--log", "quiet") as running:
        web = running.client
        state = web.get("/v1/rollout").json()
        assert (state["mode"], state["trial"], state["problem"]) == ("canary", None, "")
        second = candidate(first, 5, QUICK)
        until(lambda: web.get("/v1/rollout").json()["trial"] is not None)
        state = web.get("/v1/rollout").json()
        assert (state["mode"], state["trial"]["champion"], state["trial"]["candidate"]) == ("canary", first, second)
        seen: Counter[str] = Counter()

        def served() -> bool:
            for text in TEXTS[:20]:
                answer = web.post("/v1/predict", json={"inputs": [text]})
                assert answer.status_code == 200
                seen[answer.json()["model"]["version"]] += 1
            return bool(web.get("/readyz").json()["model"]["version"] == second)

        until(served, 90)
        assert seen[first]
        assert seen[second]
        assert 'evergreen_rollout_requests{outcome="pairs"}' in web.get("/metrics").text
        assert "passed beside version 1" in web.get("/v1/rollout").json()["settled"][0]["what"]
        pinned = web.post(
            f"/v2/models/tiny/versions/{second}/infer",
            json={"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["x"]}]},
        )
        assert pinned.status_code == 200
        assert pinned.json()["model_version"] == second
    assert aliases() == (second, None)
    assert ledger.entries("tiny")[-1]["who"].startswith("server ")
