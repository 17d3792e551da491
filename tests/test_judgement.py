"""The gate's rules, case by case."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mlops.config import PipelineConfig
from mlops.config_gate import GateSection
from mlops.judgement import Case, Limits, Rows, judge
from mlops.tasks import get
from mlops.types import ArtifactRef, Evaluation, Latency, Metric, Verdict

LABELS = ("a", "b") * 200
IDS = tuple(f"{number:04}" for number in range(len(LABELS)))


def rows(wrong: int, start: int = 0) -> Rows:
    """Predictions that are wrong on `wrong` rows from `start` on."""
    predicted = list(LABELS)
    for position in range(start, start + wrong):
        predicted[position] = "b" if LABELS[position] == "a" else "a"
    return Rows(IDS, LABELS, tuple(predicted))


def evaluation(wrong: int, size: int = 1_000_000, p95: float | None = 5.0) -> Evaluation:
    value = 1 - wrong / len(LABELS)
    metric = Metric(value=value, low=value - 0.02, high=value + 0.02, n=len(LABELS))
    names = ("accuracy", "macro_f1", "weighted_f1", "f1/a", "f1/b")
    ref = ArtifactRef(kind="scores", uri="file:///none", sha256="0" * 64, size_bytes=1)
    latency = Latency(p50=1.0, p95=p95) if p95 else None
    metrics = dict.fromkeys(names, metric)
    return Evaluation(
        model_sha256="m", snapshot_sha256="s", split="test", metrics=metrics, per_row=ref, latency=latency, size=size
    )


def pipeline(**sections: object) -> PipelineConfig:
    base = {
        "name": "t",
        "task": "text-classification",
        "data": {"source": "x.jsonl"},
        "model": {"base": "b"},
        "gate": {"floor": 0.8, "margin": 0.02, "resamples": 500},
    }
    return PipelineConfig.model_validate(base | sections)


def outcomes(verdict: object) -> dict[str, str]:
    return {check.name: check.outcome for check in verdict.checks}  # type: ignore[attr-defined]


RULES = pipeline().gate
TASK = get("text-classification")


def judged(
    scored: Evaluation, found: Rows, champion: Rows | None, rules: GateSection = RULES, **more: object
) -> Verdict:
    return judge(Case(TASK, rules, scored, found, champion, **more)).verdict  # type: ignore[arg-type]


def test_the_first_champion_needs_the_floor_and_the_baseline() -> None:
    good = judged(evaluation(20), rows(20), None)
    assert good.outcome == "pass"
    assert outcomes(good) == {"min_rows": "pass", "looks": "pass", "floor": "pass", "majority_baseline": "pass"}
    low = judged(evaluation(100), rows(100), None)
    assert low.outcome == "fail"
    assert outcomes(low) == {"min_rows": "pass", "looks": "pass", "floor": "fail", "majority_baseline": "pass"}


def test_the_majority_of_tags_is_no_entity_anywhere() -> None:
    cells = ("O B-place", "O O", "B-place I-place") * 40
    ids = tuple(f"{number:04}" for number in range(len(cells)))
    metric = Metric(value=1, low=1, high=1, n=len(cells))
    found = evaluation(0).model_copy(update={"metrics": {"f1": metric}, "outputs": ("O", "B-place", "I-place")})
    rules = RULES.model_copy(update={"metric": "f1", "floor": 0.0})
    verdict = judge(Case(get("token-classification"), rules, found, Rows(ids, cells, cells), None)).verdict
    (check,) = (check for check in verdict.checks if check.name == "majority_baseline")
    assert check.outcome == "pass"
    assert check.detail.startswith("no entity anywhere reaches f1 0.0000")


def test_a_model_that_always_answers_the_same_does_not_beat_the_majority_class() -> None:
    constant = Rows(IDS, LABELS, ("a",) * len(IDS))
    verdict = judged(evaluation(200), constant, None, RULES.model_copy(update={"floor": 0.0}))
    assert outcomes(verdict) == {"min_rows": "pass", "looks": "pass", "floor": "pass", "majority_baseline": "fail"}


@pytest.mark.parametrize(
    ("candidate", "champion", "expected"),
    [
        (rows(20), rows(20), "pass"),  # the same answers
        (rows(2), rows(40), "pass"),  # clearly better
        (rows(60), rows(10), "fail"),  # clearly worse
        (rows(20, 100), rows(20), "inconclusive"),  # as many errors, on other rows: too few to tell
    ],
)
def test_against_the_champion(candidate: Rows, champion: Rows, expected: str) -> None:
    wrong = sum(truth != guess for truth, guess in zip(candidate.labels, candidate.predicted, strict=True))
    verdict = judged(evaluation(wrong), candidate, champion)
    assert outcomes(verdict)["against_champion"] == expected
    assert verdict.outcome == expected
    if expected == "inconclusive":
        assert "test rows would settle it" in verdict.explain()


def test_other_rows_are_never_compared() -> None:
    other = replace(rows(5), ids=tuple(reversed(IDS)))
    with pytest.raises(ValueError, match="not the same rows"):
        judged(evaluation(5), rows(5), other)


def test_an_unknown_metric_fails_and_says_which_there_are() -> None:
    verdict = judged(evaluation(5), rows(5), None, RULES.model_copy(update={"metric": "f1/zebra"}))
    assert verdict.outcome == "fail"
    assert "f1/zebra" in verdict.explain()
    assert "f1/a" in verdict.explain()


@pytest.mark.parametrize(
    ("limits", "ours", "expected"),
    [
        ({}, (rows(20), evaluation(20)), {}),
        ({"max_drop": 0.01}, (rows(40), evaluation(40)), {"metric_drop": "fail"}),
        ({"max_flips": 0.01}, (rows(20, 100), evaluation(20)), {"label_flips": "fail"}),
        ({"p95_ms": 2}, (rows(20), evaluation(20)), {"p95_ms": "fail"}),
        ({"p95_ms": 2}, (rows(20), evaluation(20, p95=None)), {"p95_ms": "fail"}),
        ({"max_size_mb": 0.5}, (rows(20), evaluation(20)), {"size_mb": "fail"}),
    ],
)
def test_the_file_that_ships(limits: dict, ours: tuple[Rows, Evaluation], expected: dict[str, str]) -> None:
    found, scored = ours
    case = Case(
        TASK,
        RULES,
        scored,
        found,
        subject="int8",
        original=rows(20),
        limits=Limits(**({"max_drop": 0.5, "max_flips": 1} | limits)),
    )
    judged = judge(case)
    verdict = judged.verdict
    if expected:  # the sentence names what keeps it out
        assert all(name in judged.sentence for name in expected)
    assert {name: outcome for name, outcome in outcomes(verdict).items() if outcome != "pass"} == expected


def test_a_file_that_only_its_parent_would_carry_past_the_champion_is_kept_out() -> None:
    limits = Limits(max_drop=0.5, max_flips=1)
    case = Case(TASK, RULES, evaluation(60), rows(60), rows(10), subject="int8", original=rows(10), limits=limits)
    verdict = judge(case).verdict
    assert outcomes(verdict)["against_champion"] == "fail"
    assert verdict.outcome == "fail"
