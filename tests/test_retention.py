"""`mlops gc`: what goes by the rule, what stays and still works, and what a crash in the middle leaves for the next
run."""

from __future__ import annotations

import functools
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny import tiny_artifact, tiny_config, tiny_file, tiny_models, tiny_release, tiny_snapshot

from mlops import ledger, promotion, registry, tracking
from mlops.cli import main
from mlops.errors import NotFound, RegistryError, UserError
from mlops.retention import rule as rules
from mlops.retention.collect import collect, told_bytes
from mlops.retention.marks import names
from mlops.retention.rule import DAY, Rule
from mlops.rollback import rollback
from mlops.store import MANIFEST, Store, open_store
from mlops.tracking import client
from mlops.types import ArtifactRef, Evaluation, Snapshot

LATER = 100 * DAY
OLD = Rule(keep=1, ahead=LATER)  # 90 days, read in 100


def kinds(found: dict[str, Any]) -> dict[str, int]:
    return {kind: each["count"] for kind, each in found["freed"].items()}


def blob(text: str, kind: str = "thing") -> ArtifactRef:
    store = open_store()
    with store.workspace() as folder:
        (folder / "file").write_text(text)
        return store.put(folder, kind)


def retrain(seed: int, variant: str = "fp32", serve: bool = True) -> str:
    """A version with its MLflow run and answers of its own, as a retrain leaves them; its number."""
    config = tiny_config(tiny_models()["base"])
    run_id = tracking.start_run(config, f"run-{seed}", {"evergreen.retrain_id": f"retrain-{seed}"})
    client().log_text(run_id, f"a report of {seed}", "report.html")
    release = tiny_release(variant, seed=seed)
    evaluation = release.evaluation.model_copy(update={"per_row": blob(f"answers {seed}", "scores")})
    release = registry.register(release.model_copy(update={"evaluation": evaluation}), {}, run_id)
    client().set_terminated(run_id)
    if serve:
        promotion.promote("tiny", release.version, "a test")
    return release.version


def everything() -> dict[str, int]:
    """All files of the home, without MLflow's database, locks and logs."""
    home = open_store().cache.parent
    return {
        str(path.relative_to(home)): path.stat().st_size
        for path in home.rglob("*")
        if path.is_file() and path.suffix not in (".db", ".lock") and "cache/serving" not in str(path)
    }


@pytest.fixture
def three() -> Store:
    """Versions 1 (int8), 2 and 3 served; 3 serves."""
    for seed, variant in enumerate(("int8", "fp32", "fp32"), 1):
        retrain(seed, variant)
    return open_store()


def test_what_went_what_stays_and_that_it_still_answers(three: Store, capsys: pytest.CaptureFixture[str]) -> None:
    gone = registry.at("tiny", "1")
    left = [registry.at("tiny", version) for version in ("2", "3")]
    blob("of nobody")
    three.write_document("steps/evaluate/old", {"output": None})
    three.write_document("golden/" + gone.model.files.sha256, {"asked": []})
    before = everything()

    told = collect(OLD, dry_run=True)
    assert everything() == before
    assert [row["version"] for row in registry.releases("tiny")] == ["1", "2", "3"]
    assert told["stays"] == {"tiny": {"2": "previous", "3": "champion"}}

    found = collect(OLD)
    assert kinds(found) == kinds(told)
    assert {kind: count for kind, count in kinds(found).items() if not kind.startswith("cache")} == {
        "version": 1,
        "run": 1,
        "document golden": 1,
        "document steps": 1,
        "artifact model": 1,
        "artifact scores": 1,
        "artifact thing": 1,
    }
    assert found["bytes"] == told["bytes"] > gone.evaluation.size
    assert not three.exists(gone.model.files)
    assert all(three.exists(ref) for release in left for ref in (release.model.files, release.evaluation.per_row))
    assert not [path for path in everything() if gone.model.files.sha256 in path]
    assert collect(OLD)["removed"] == []

    assert main(["predict", "tiny", "--text", "bado kilu"]) == 0
    assert json.loads(capsys.readouterr().out)["label"]
    with pytest.raises(
        UserError, match=r"cannot go back to version 1: version 1 was removed by retention at 20.*keep 1, 90"
    ):
        rollback("tiny", "a test", "1")
    with pytest.raises(NotFound, match=r"'1' \(version 1 was removed by retention at 20.*\); versions: 2, 3"):
        registry.at("tiny", "1")
    assert rollback("tiny", "a test") == "2"
    assert [entry["action"] for entry in ledger.entries("tiny")] == ["promote"] * 3 + ["retire", "rollback"]


KEPT: list[tuple[str, Callable[[], object], Rule, str]] = [
    ("young", lambda: None, Rule(keep=1), "served within 90 days"),
    ("one of the last", lambda: None, Rule(keep=3, ahead=LATER), "one of the last 3"),
    ("candidate", lambda: promotion.set_candidate("tiny", "1"), OLD, "candidate"),
    (
        "an alias of somebody's",
        lambda: client().set_registered_model_alias("tiny", "shadow", "1"),
        OLD,
        "shadow",
    ),
    ("back", lambda: promotion.roll_back("tiny", "a test", "1"), OLD, "champion"),
]


@pytest.mark.parametrize(("prepare", "rule", "why"), [case[1:] for case in KEPT], ids=[case[0] for case in KEPT])
def test_every_reason_to_stay(three: Store, prepare: Callable[[], object], rule: Rule, why: str) -> None:
    prepare()
    found = collect(rule, dry_run=True)
    assert found["stays"]["tiny"]["1"] == why
    assert "tiny 1" not in [each["name"] for each in found["removed"]]


def crash(place: str, remove: Callable[[Any, str], None]) -> dict[str, Callable[..., None]]:
    """What to put in the place of what, so that a collection ends there."""
    asked: list[str] = []

    def third(blobs: Any, key: str) -> None:
        asked.append(key)
        if len(asked) == 3:
            raise OSError("the disk went away")
        remove(blobs, key)

    def never(*_: object) -> None:
        raise OSError("the disk went away")

    return {
        "a version": {"mlops.retention.versions.remove_version": never},
        "an upload": {"mlops.registry.remove_upload": never},
        "a run": {"mlops.retention.runs._remove": never},
        "the middle of an artifact": {"mlops.blobs.LocalBlobs.remove": third},
    }[place]


@pytest.mark.parametrize("place", ["a version", "an upload", "a run", "the middle of an artifact"])
def test_a_crash_in_the_middle_is_finished_by_the_next(
    three: Store, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for text in ("a", "b"):
        blob(text)
    whole = {each["kind"] for each in collect(OLD, dry_run=True)["removed"]}

    with monkeypatch.context() as crashing:
        for name, act in crash(place, type(three.blobs).remove).items():
            crashing.setattr(name, act)
        with pytest.raises(OSError, match="the disk went away"):
            collect(OLD)
    again = {each["kind"] for each in collect(OLD)["removed"]}
    assert again <= whole | {"upload", "unfinished"}
    assert collect(OLD)["removed"] == []
    assert [entry["action"] for entry in ledger.entries("tiny")] == ["promote"] * 3 + ["retire"]
    assert [row["version"] for row in registry.releases("tiny")] == ["2", "3"]
    assert not three.blobs.list("thing/")
    assert main(["predict", "tiny@previous", "--text", "bado kilu"]) == 0


def test_what_a_retrain_that_runs_at_the_same_time_uses_stays(three: Store) -> None:
    used, unused = blob("used again"), blob("not used")
    for ref in (used, unused):
        manifest = three.blobs.local(f"{ref.kind}/{ref.sha256}/{MANIFEST}")
        assert manifest is not None
        os.utime(manifest, (time.time() - LATER,) * 2)
    assert three.exists(used)  # as a step asks before it takes an earlier result
    found = collect(Rule())
    assert kinds(found) == {"artifact thing": 1}
    assert (three.exists(used), three.exists(unused)) == (True, False)
    assert blob("not used") == unused
    assert three.exists(unused)

    run_id = tracking.start_run(tiny_config(tiny_models()["base"]), "r", {"evergreen.retrain_id": "it runs"})
    time.sleep(0.01)
    blob("made by it")
    late = Rule(keep=1, days=1, ahead=10 * DAY)
    assert kinds(collect(late, dry_run=True))["artifact thing"] == 2  # it has run for longer than the days
    client().set_terminated(run_id)
    assert kinds(collect(late, dry_run=True))["artifact thing"] == 3


def test_a_version_that_somebody_promotes_meanwhile_stays_whole(three: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlops.retention import versions

    retire, release = versions.retire, registry.at("tiny", "1")

    def promoted_first(name: str, version: str, rule: Rule) -> None:
        promotion.set_candidate(name, version)
        retire(name, version, rule)

    monkeypatch.setattr(versions, "retire", promoted_first)
    assert "artifact model" not in kinds(collect(OLD))
    assert registry.at("tiny", "1") == release
    assert three.exists(release.model.files)


def judged(per_row: ArtifactRef, snapshot: Snapshot) -> Evaluation:
    release = tiny_release(seed=9)
    return release.evaluation.model_copy(update={"per_row": per_row, "snapshot_sha256": snapshot.revision})


def test_what_a_release_was_trained_on_and_judged_by_stays(three: Store) -> None:
    """Its snapshot by the step that gave it, the weights that it was made from, its judgement and what judging again
    reads."""
    snapshot = tiny_snapshot(tiny_models()["base"])
    other = tiny_snapshot(tiny_models()["base"], seed=1)
    three.write_document("steps/prepare/this", {"output": snapshot.model_dump(mode="json")})
    three.write_document("steps/prepare/other", {"output": other.model_dump(mode="json")})
    weights, theirs, raw, stale = tiny_artifact("torch").files, blob("theirs", "scores"), blob("raw"), blob("stale")
    for revision, ref, parent in (("r2", raw, "r1"), ("r1", blob("before"), None), ("r0", stale, None)):
        three.write_document(f"snapshots/tiny/{revision}", {"all": ref.model_dump(), "parent_sha256": parent})
    three.write_document("snapshots/tiny", {"revision": "r2"})
    with three.workspace() as folder:
        (folder / "judgement.json").write_text(json.dumps({"inputs": {"champion": theirs.model_dump()}}))
        report = three.put(folder, "judgement")
    release = tiny_release(seed=9)
    model = release.model.model_copy(update={"parent_sha256": weights.sha256, "snapshot_sha256": snapshot.revision})
    verdicts = tuple(each.model_copy(update={"report": report}) for each in release.verdicts)
    evaluation = judged(blob("answers 9", "scores"), snapshot)
    version = registry.register(
        release.model_copy(update={"model": model, "verdicts": verdicts, "evaluation": evaluation}), {}, None
    ).version
    promotion.promote("tiny", version, "a test")
    needed = [weights, theirs, report, raw, *snapshot.splits.values()]
    found = {each["name"] for each in collect(OLD)["removed"]}
    assert all(three.exists(ref) for ref in needed)
    assert {"steps/prepare/other", "snapshots/tiny/r0"} <= found
    assert not {"steps/prepare/this", "snapshots/tiny/r1", "snapshots/tiny/r2"} & found
    assert not three.exists(stale)
    assert not any(three.exists(ref) for ref in set(other.splits.values()) - set(snapshot.splits.values()))

    # Once it has served and is gone, what it was let in by stays, its files and its rows do not.
    for seed in (10, 11):
        retrain(seed, "int8")
    collect(OLD)
    assert three.exists(report)
    assert not three.exists(weights)
    assert not any(three.exists(ref) for ref in snapshot.splits.values())


def test_copies_and_reports_of_this_machine(three: Store) -> None:
    home = three.cache.parent
    for name in (
        "runs/tiny/retrain-1",
        "runs/tiny/retrain-3",
        "cache/training/k",
        "cache/sources/s3/ab",
        "cache/work/w",
    ):
        (home / name).mkdir(parents=True)
        (home / name / "file").write_text("12345")
    found = {each["kind"]: each["bytes"] for each in collect(OLD)["removed"]}
    assert (found["report"], found["cache training"], found["cache sources"], found["unfinished"]) == (5, 5, 5, 5)
    assert (home / "runs/tiny/retrain-3").exists()
    assert not (home / "runs/tiny/retrain-1").exists()


def test_nothing_goes_where_ledger_and_registry_do_not_agree(three: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    before = everything()
    with monkeypatch.context() as other:
        other.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{three.cache.parent / 'other.db'}")
        with pytest.raises(RegistryError, match="version 3 serves, the registry does not have it: nothing is removed"):
            collect(OLD)
    client().delete_model_version("tiny", "3")
    with pytest.raises(RegistryError, match="then: mlops reconcile tiny"):
        collect(OLD)
    assert before.items() <= everything().items()


def test_the_command(three: Store, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert main(["gc"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("keep 5, 90 days: 0 B freed\ntiny: 1 (served within 90 days)")
    for wrong, told in (
        (["--keep", "0"], "--keep: found 0"),
        (["--days", "0.5"], "--days: found 0.5"),
        (["--days", "nan"], "nan"),
    ):
        assert main(["gc", *wrong]) == 2
        assert told in capsys.readouterr().err
    monkeypatch.setattr(rules, "Rule", functools.partial(Rule, ahead=LATER))
    assert main(["gc", "--keep", "1", "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "would be freed" in out
    assert "versions that would go: tiny 1" in out
    assert main(["gc", "--keep", "1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["rule"], found["dry_run"], found["freed"]["version"]["count"]) == ({"keep": 1, "days": 90}, False, 1)
    assert found["freed"]["artifact model"]["bytes"] > 0


def test_on_s3(s3_server: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in s3_server.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("EVERGREEN_STORE", f"s3://evergreen/{tmp_path.name}")
    for seed, variant in enumerate(("int8", "fp32", "fp32"), 1):
        retrain(seed, variant)
    store, gone = open_store(), registry.at("tiny", "1")
    store.fetch(gone.model.files)
    assert store.exists(gone.model.files)
    assert not store.exists(blob("x").model_copy(update={"sha256": "0" * 64}))
    found = kinds(collect(OLD))
    assert (found["version"], found["artifact model"], found["artifact thing"], found["cache artifacts"]) == (
        1,
        1,
        1,
        1,
    )
    assert not store.exists(gone.model.files)
    assert collect(OLD)["removed"] == []
    assert rollback("tiny", "a test") == "2"


def test_references_and_bytes() -> None:
    ref = ArtifactRef(kind="k", uri="u", sha256="s", size_bytes=1).model_dump()
    assert names({"a": [{"b": ref}], "sha256": "x"}) == {"k/s"}
    assert [told_bytes(size) for size in (0, 999, 1000, 5_600_000, 7_800_000_000)] == [
        "0 B",
        "999 B",
        "1.0 kB",
        "5.6 MB",
        "7.8 GB",
    ]


def test_a_retrain_after_a_collection_finds_all_that_it_needs(tmp_path: Path) -> None:
    """Of a whole real retrain: what judges again, what a warm start begins with, what rows are new."""
    from mlops import config, explain, pipeline, records

    loaded = config.load(tiny_file(tmp_path))
    first = pipeline.run(loaded)
    assert first["outcome"] == "promoted", first["reason"]
    found = kinds(collect(OLD))
    assert "version" not in found
    assert "run" not in found
    assert not records.again(explain.find("tiny", None))[1]
    assert pipeline.run(loaded)["outcome"] == "skipped"
    assert open_store().exists(
        ArtifactRef(kind="model", uri="", sha256=registry.at("tiny", "1").model.parent_sha256 or "", size_bytes=0)
    )
