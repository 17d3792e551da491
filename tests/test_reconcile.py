"""Every kind of thing that a crash or a hand leaves behind: told by a dry run, mended by the next, gone after it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import mlflow
import pytest
from tiny import tiny_release

from mlops import ledger, promotion, reconcile, registry, uploads
from mlops.cli import main
from mlops.errors import RegistryError
from mlops.reconcile import Finding
from mlops.store import open_store
from mlops.tracking import client
from mlops.types import Release

DAY = 86_400.0
Case = tuple[Callable[[], None], str, str, tuple[str | None, str]]  # harm, kind, found, where the aliases end


def register(seed: int = 0) -> Release:
    return registry.register(tiny_release(seed=seed), {}, None)


@pytest.fixture
def two() -> list[Release]:
    """Version 2 serves, version 1 did before, version 3 never did."""
    made = [register(seed) for seed in range(3)]
    for release in made[:2]:
        promotion.promote("tiny", release.version, "a test")
    return made


def alias(name: str) -> str | None:
    return registry.aliased(client(), "tiny", name)


def half() -> None:
    client().create_model_version("tiny", source="file:///nowhere", tags={registry.KEY: "k", registry.STATE: "half"})


def moved_by_hand() -> None:
    client().set_registered_model_alias("tiny", "champion", "3")


def alias_removed() -> None:
    client().delete_registered_model_alias("tiny", "previous")


def deleted() -> None:
    client().delete_model_version("tiny", "2")


def unjudged() -> None:
    """Somebody swapped the record of the champion for one without its verdicts."""
    without_verdicts("2")


def without_verdicts(version: str) -> None:
    release = registry.at("tiny", version).model_copy(update={"verdicts": ()})
    record = registry._write_record(release)
    client().set_model_version_tag("tiny", version, registry.RECORD, record.model_dump_json())


def candidate_unjudged() -> None:
    client().set_registered_model_alias("tiny", "candidate", "3")
    without_verdicts("3")


def double() -> None:
    """The same release once more, as two writers make it that had both lost the lock."""
    first = client().get_model_version("tiny", "3")
    client().create_model_version("tiny", source=first.source, tags=first.tags)


def crashed_between_ledger_and_alias() -> None:
    ledger.append("tiny", "promote", "2", "3", "a test")


def orphaned_upload() -> None:
    release = tiny_release(seed=7)
    uploads.upload(client(), open_store().fetch(release.model.files), release, None, "key")


def unfinished_artifact() -> None:
    open_store().blobs.write(f"model/{'a' * 64}/weights.bin", b"half of it")


def half_written() -> None:
    store = open_store()
    path = store.blobs.local(f"documents/.x.json.{os.getpid()}-{'0' * 8}")
    assert path is not None
    path.write_bytes(b"{")


def work_folder() -> None:
    (open_store().cache / "work" / "left").mkdir(parents=True)


SAME: list[Case] = [
    (half, "half version", "was never finished", ("1", "2")),
    (moved_by_hand, "alias", "champion is version 3, the ledger says 2", ("1", "2")),
    (alias_removed, "alias", "previous is version none, the ledger says 1", ("1", "2")),
    (double, "double version", "is version 3 once more", ("1", "2")),
    (orphaned_upload, "orphaned upload", "never became a version", ("1", "2")),
    (unfinished_artifact, "orphaned files", "1 files without a manifest", ("1", "2")),
    (half_written, "orphaned files", "half written", ("1", "2")),
    (work_folder, "orphaned files", "left", ("1", "2")),
    (candidate_unjudged, "alias", "candidate: version 3 may not serve", ("1", "2")),
]
MOVED: list[Case] = [
    (deleted, "champion", "version 2 is gone from the registry", (None, "1")),
    (unjudged, "champion", "version 2 may not serve: snapshot: fail, nothing was checked", (None, "1")),
    (crashed_between_ledger_and_alias, "alias", "champion is version 2, the ledger says 3", ("2", "3")),
]


def check_case(case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    harm, kind, found, standing = case
    harm()
    before = len(ledger.entries("tiny"))
    assert main(["reconcile", "tiny", "--dry-run", "--older-than", "0", "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert [(each["model"], each["kind"], each["mended"]) for each in told[:1]] == [("tiny", kind, False)]
    assert found in told[0]["found"]
    assert len(ledger.entries("tiny")) == before
    assert main(["reconcile", "--older-than", "0"]) == 0
    assert kind in capsys.readouterr().out
    assert main(["reconcile", "tiny", "--older-than", "0"]) == 0
    assert capsys.readouterr().out == "in order: tiny\n"
    assert (alias("previous"), alias("champion")) == standing
    for row in registry.releases("tiny"):  # what was whole still is, with the files that MLflow has of it
        assert registry.at("tiny", row["version"] if kind != "champion" else "1")
        source = client().get_model_version("tiny", row["version"]).source
        assert list(Path(mlflow.artifacts.download_artifacts(artifact_uri=source)).rglob("*.onnx"))


def test_what_moves_nobody_is_told_then_mended_then_gone(
    two: list[Release], capsys: pytest.CaptureFixture[str]
) -> None:
    for case in SAME:
        check_case(case, capsys)


@pytest.mark.parametrize("case", MOVED, ids=[case[0].__name__ for case in MOVED])
def test_what_moves_the_champion_is_told_then_mended_then_gone(
    two: list[Release], case: Case, capsys: pytest.CaptureFixture[str]
) -> None:
    check_case(case, capsys)


def test_what_is_young_is_somebodys_work(two: list[Release]) -> None:
    unfinished_artifact(), half_written(), work_folder(), orphaned_upload()
    assert reconcile.reconcile("tiny") == []
    for path in (*open_store().cache.parent.rglob("weights.bin"), *(open_store().cache / "work").iterdir()):
        os.utime(path, (time.time() - 2 * DAY,) * 2)
    kinds = [finding.kind for finding in reconcile.reconcile("tiny")]
    assert kinds == ["orphaned files"] * 2


def test_a_finished_artifact_and_other_things_of_the_store_stay(two: list[Release]) -> None:
    store = open_store()
    store.blobs.write("predictions/tiny/2026-01-01/part.parquet", b"kept")
    before = store.blobs.list("")
    assert reconcile.reconcile("tiny", older_than_seconds=0) == []
    assert store.blobs.list("") == before


def test_a_removed_upload_leaves_no_files(two: list[Release]) -> None:
    files = {path for path in open_store().cache.parent.rglob("*.onnx") if "mlflow" in path.parts}
    orphaned_upload()
    (found,) = reconcile.reconcile("tiny", older_than_seconds=0)
    assert found.kind == "orphaned upload"
    assert {path for path in open_store().cache.parent.rglob("*.onnx") if "mlflow" in path.parts} == files


def test_nothing_that_served_may_serve(two: list[Release]) -> None:
    for version in ("1", "2"):
        without_verdicts(version)
    with pytest.raises(RegistryError, match=r"version 2 may not serve: .* and so it is with all that served before"):
        reconcile.reconcile("tiny")


def test_a_champion_whose_tag_a_hand_changed_is_not_thrown_away(two: list[Release]) -> None:
    client().set_model_version_tag("tiny", "2", registry.STATE, "what")
    assert [finding.kind for finding in reconcile.reconcile("tiny")] == ["champion", "alias", "alias"]
    assert [row["version"] for row in registry.releases("tiny")] == ["1", "2", "3"]
    for version in ("1", "2"):
        client().set_model_version_tag("tiny", version, registry.STATE, "what")
    with pytest.raises(RegistryError, match="the registry has none of the versions 1"):
        reconcile.reconcile("tiny")


@pytest.mark.parametrize("harm", ["cut", "changed"])
def test_a_ledger_that_was_changed_at_its_end_is_noticed(two: list[Release], harm: str) -> None:
    store = open_store()
    newest = store.list_documents("ledger/tiny")[-1]
    if harm == "cut":
        store.blobs.remove(f"documents/{newest}.json")
    else:
        store.write_document(newest, store.read_document(newest) | {"who": "somebody else"})
    with pytest.raises(RegistryError, match="is not the one that the registry knows"):
        reconcile.reconcile("tiny")
    assert main(["reconcile", "tiny"]) == 1


def test_findings_are_values_and_unknown_models_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert Finding("a", "alias", "b", "c") == Finding("a", "alias", "b", "c", False)
    assert main(["reconcile", "tiny"]) == 2
    assert "no model 'tiny' is registered; there are: none yet" in capsys.readouterr().err
    assert main(["reconcile", "--older-than", "-1"]) == 2
    assert main(["reconcile"]) == 0
