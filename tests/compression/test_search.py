"""The search for the cheapest file: real forms of a tiny model, measured in a real process, judged on validation rows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from outliers import make_outliers
from tiny import tiny_artifact, tiny_config, tiny_models, tiny_snapshot

from mlops.compression import attempt as attempt_module
from mlops.compression import search as search_module
from mlops.compression.choice import choose, missed
from mlops.compression.quality import Quality, quality
from mlops.compression.recipes import RECIPES, TABLES, ladder
from mlops.config import PipelineConfig
from mlops.config_compress import CompressSection
from mlops.judging.answers import Rows
from mlops.serving.runtime import Runtime
from mlops.steps.compress import compress
from mlops.store import open_store
from mlops.types import ArtifactRef, Attempt, Evaluation, ModelArtifact, Snapshot, Variants


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempt_module, "_MEASURED_SECONDS", 0.5)


def searched(model: ModelArtifact, snapshot: Snapshot, base: Path, **section: object) -> Variants:
    return compress(tiny_config(base, compress={"variants": "auto", **section}), model, snapshot)


def test_a_search_keeps_every_attempt_and_offers_fp32_to_fall_back_on() -> None:
    base = tiny_models()["base"]
    found = searched(tiny_artifact("torch"), tiny_snapshot(base), base, max_drop=0.2, max_flip_rate=0.5)
    assert found.attempts[0].name == "fp32"
    assert found.models[-1].variant == "fp32"
    int8 = next(each for each in found.attempts if each.name == "int8")
    assert int8.drop is not None
    assert int8.drop[1] <= int8.drop[0] <= int8.drop[2]
    assert int8.flips is not None
    assert 0 <= int8.flips <= 0.5
    assert int8.measured["throughput"] > 0
    assert int8.measured["size_mb"] < found.attempts[0].measured["size_mb"]
    # A tiny model may be slower in int8: then it is refused with the ratio, and fp32 ships with the reason.
    if int8.outcome == "accepted":
        assert found.models[0].variant == "int8"
        assert found.reason.startswith("int8 ships: ")
    else:
        assert "slower than fp32" in int8.reason
        assert "int8: slower than fp32" in found.reason or found.models[0].variant != "fp32"


def test_an_attempt_is_made_once(caplog: pytest.LogCaptureFixture) -> None:
    base = tiny_models()["base"]
    model, snapshot = tiny_artifact("torch"), tiny_snapshot(base)
    first = searched(model, snapshot, base)
    caplog.clear()
    with caplog.at_level("INFO"):
        again = searched(model, snapshot, base)
    assert "as an earlier search found it" in caplog.text
    assert again == first.model_copy(update={"attempts": (again.attempts[0], *first.attempts[1:])})
    assert without_seconds(again.attempts[0]) == without_seconds(
        first.attempts[0]
    )  # with what it cost beside the others


def without_seconds(found: Attempt) -> Attempt:
    return found.model_copy(update={"seconds": 0.0})


def test_another_budget_of_time_finds_the_same_attempts(caplog: pytest.LogCaptureFixture) -> None:
    base = tiny_models()["base"]
    model, snapshot = tiny_artifact("torch"), tiny_snapshot(base)
    first = searched(model, snapshot, base, minutes=30)
    again = searched(model, snapshot, base, minutes=1e-9, epochs=3)  # too short to make one, long enough to remember
    assert (again.models, again.reason) == (first.models, first.reason)


def test_time_that_is_over_leaves_fp32_with_the_reason() -> None:
    base = tiny_models()["base"]
    found = searched(tiny_artifact("torch"), tiny_snapshot(base), base, minutes=1e-9, max_flip_rate=0.123)
    assert [each.outcome for each in found.attempts[1:]] == ["skipped"] * (len(found.attempts) - 1)
    assert [each.variant for each in found.models] == ["fp32"]
    assert "minutes (compress.minutes) were over" in found.reason


@pytest.mark.parametrize("everywhere", [False, True])
def test_outliers_break_int8_and_are_kept_in_fp32_where_that_helps(
    tmp_path: Path, everywhere: bool, caplog: pytest.LogCaptureFixture
) -> None:
    base = tiny_models()["base"]
    snapshot = tiny_snapshot(base)
    broken = make_outliers(tiny_models()["torch"], tmp_path / "broken", everywhere=everywhere)
    files = open_store().put(broken, "model")
    model = tiny_artifact("torch").model_copy(update={"files": files})
    found = searched(model, snapshot, base, max_drop=0.02, max_flip_rate=0.05, target={"size_mb": 1000})
    naive = next(each for each in found.attempts if each.name == "int8" and not each.recipe["keep"])
    assert naive.outcome == "rejected"
    assert "drops by" in naive.reason or "answers change" in naive.reason
    assert naive.lost
    caplog.clear()
    with caplog.at_level("INFO"):
        again = searched(model, snapshot, base, max_drop=0.02, max_flip_rate=0.05, target={"size_mb": 1000})
    assert (again.models, again.reason) == (found.models, found.reason)
    assert "sensitivity:" not in caplog.text  # nothing is worked out twice
    rescued = [each for each in found.attempts if each.recipe["keep"] and each.outcome == "accepted"]
    if everywhere:
        assert not rescued
        assert found.models[0].variant == "fp32"
        assert naive.reason in found.reason
    else:
        assert rescued
        assert set(rescued[0].recipe["keep"]) - {TABLES}
        assert found.models[0].variant in ("int8", "int8-static")  # whichever of the rescued ones is faster
        Runtime.load(open_store().fetch(found.models[0].files)).warm_up()


def test_the_ladder_follows_what_is_wished_for() -> None:
    def names(**section: object) -> list[str]:
        return [recipe.name for recipe in ladder(CompressSection.model_validate({"variants": "auto", **section}))]

    assert names() == ["int8", "int8-static", "w8"]
    assert names(target={"size_mb": 10}) == ["int8", "int8-static", "w8", "w4"]
    assert names(students=True) == ["student+int8", "pruned+int8", "int8", "int8-static", "w8"]


def attempt(name: str, ratio: float, outcome: str = "accepted", **cost: float) -> Attempt:
    files = ArtifactRef(kind="model", uri=f"file:///{name}", sha256=name, size_bytes=10)
    measured = {
        "ratio_high": ratio,
        "p95": 5.0,
        "throughput": 100 * ratio,
        "size_mb": 10.0,
        "memory_mb": 50.0,
        "ratio": ratio,
    } | cost
    return Attempt(
        name=name, recipe=RECIPES[name].dump(), outcome=outcome, reason="why not", files=files, measured=measured
    )


def test_the_fastest_that_reaches_the_targets_ships_else_the_fastest_that_keeps_the_quality() -> None:
    section = CompressSection.model_validate({"variants": "auto", "target": {"p95_ms": 4}})
    fp32, fast = attempt("fp32", 1.0), attempt("int8", 2.0)
    small = attempt("w8", 0.7, p95=3.0)
    assert choose(section, [fp32, fast, small])[0].name == "w8"
    best, reason = choose(section, [fp32, fast])
    assert best.name == "int8"
    assert "no form reaches the target: p95_ms 5, wanted 4" in reason
    assert choose(section, [fp32, attempt("int8", 2.0, "rejected")]) == (fp32, "fp32 ships: int8: why not")
    even = attempt("int8", 0.97, ratio_high=1.02)
    assert choose(CompressSection(), [fp32, even])[0] is even  # no slower than the noise, and smaller
    assert choose(section, [attempt("fp32", 1.0, p95=3.0), even])[0].name == "fp32"
    assert missed(section, fast) == ["p95_ms 5, wanted 4"]


def test_a_file_that_is_slower_than_fp32_ships_only_where_it_brings_what_was_wished_for() -> None:
    small = CompressSection.model_validate({"variants": "auto", "target": {"size_mb": 8}})
    fp32, slow = attempt("fp32", 1.0), attempt("w8", 0.7, size_mb=5.0)
    assert choose(small, [fp32, slow])[0] is slow
    assert choose(small, [fp32, attempt("w8", 0.7, size_mb=9.0)])[0] is fp32  # and nothing reaches it
    assert choose(small, [attempt("fp32", 1.0, size_mb=7.0), slow])[0].name == "fp32"
    unmeasured = attempt("int8", 2.0).model_copy(update={"measured": {}})
    assert missed(small, unmeasured) == ["size_mb not measured, wanted 8"]


def test_without_validation_rows_fp32_ships() -> None:
    base = tiny_models()["base"]
    snapshot = tiny_snapshot(base)
    rows = {split: count for split, count in snapshot.rows.items() if split != "validation"}
    splits = {split: files for split, files in snapshot.splits.items() if split != "validation"}
    found = searched(tiny_artifact("torch"), snapshot.model_copy(update={"rows": rows, "splits": splits}), base)
    assert [each.variant for each in found.models] == ["fp32"]
    assert found.reason == "fp32 ships: there are no validation rows, by which a search judges what it tries"


def test_a_training_ends_with_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    base = tiny_models()["base"]
    snapshot = tiny_snapshot(base)
    config = tiny_config(base, compress={"variants": "auto", "students": True, "epochs": 50})
    with open_store().workspace() as folder:
        task = search_module.opened(config, tiny_artifact("torch"), snapshot, folder)
        task.attempts.append(attempt_module.original(task))
        task.builder.ends = 0.0  # over since long
        found = attempt_module.attempt(task, RECIPES["student+int8"])
    assert (found.outcome, found.files) == ("skipped", None)
    assert "were over while it was trained" in found.reason


def test_a_small_network_that_loses_by_itself_is_not_rescued(monkeypatch: pytest.MonkeyPatch) -> None:
    base = tiny_models()["base"]

    judged: list[int] = []

    def strict(config: PipelineConfig, evaluation: Evaluation, reference: Rows) -> Quality:
        """The first two, the student in int8 and as it is, are not good enough."""
        judged.append(1)
        found = quality(config, evaluation, reference)
        return replace(found, faults=("not as good as it should be",)) if len(judged) <= 2 else found

    monkeypatch.setattr(attempt_module, "quality", strict)
    section = {"students": True, "epochs": 1, "max_drop": 0.9, "max_flip_rate": 0.9}
    found = searched(tiny_artifact("torch"), tiny_snapshot(base), base, **section)
    assert [each.name for each in found.attempts[:4]] == ["fp32", "student+int8", "student", "pruned+int8"]
    assert found.attempts[1].lost
    assert found.attempts[2].lost
    # The trained networks are kept: a search that allows something else finds them.
    again = searched(tiny_artifact("torch"), tiny_snapshot(base), base, **section | {"max_drop": 0.8})
    assert again.attempts[1].files == found.attempts[1].files
