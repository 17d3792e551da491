"""What every fault has to come to, checked; and its row in docs/reliability.md, where EVERGREEN_WRITE_TABLE is set."""

from __future__ import annotations

import functools
import os
import shutil
import sqlite3
import tempfile
from pathlib import Path

import mlflow
from filelock import FileLock
from tiny import tiny_file

from mlops import ledger, promotion, reconcile, registry, settings
from mlops.store import open_store
from mlops.tracking import client

PAGE = Path(__file__).resolve().parent.parent.parent / "docs" / "reliability.md"
BEGIN, END = "<!-- alone: written by make test with EVERGREEN_WRITE_TABLE=1 -->", "<!-- end of alone -->"
HEAD = ["| what happens | while | it ends | left over, and mended |", "|---|---|---|---|"]


@functools.cache
def _empty_registry() -> bytes:
    """MLflow's database without anything in it: its tables take seconds to make, a copy of them none."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mlflow.db"
        SqlAlchemyStore(f"sqlite:///{path}", folder).engine.dispose()
        with sqlite3.connect(path) as database:
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return path.read_bytes()


def empty_registry() -> Path:
    """Puts it where the settings look for it."""
    path = settings.current().mlflow_db
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(_empty_registry())
    return path


def short_retrain(folder: Path) -> Path:
    """A pipeline file with a short training and one variant to ship."""
    train = {"epochs": 3, "learning_rate": 1e-2, "batch_tokens": 512}
    return tiny_file(folder, compress={"variants": ["fp32"]}, train=train)


def end(name: str, versions: list[str], champion: str | None, moves: list[tuple[str, str | None]] | None = None) -> int:
    """The state after a fault and what was done about it: how much was left over, which is mended and then gone.

    versions: all that there are, each whole. champion: judged, its files in the store and in MLflow. moves: the ledger.
    """
    left = reconcile.reconcile(name, older_than_seconds=0)
    assert all(each.mended for each in left), left
    assert reconcile.reconcile(name, older_than_seconds=0) == []
    rows = registry.releases(name)
    assert [(row["version"], row["state"]) for row in rows] == [(version, "complete") for version in versions]
    for version in versions:
        release = registry.at(name, version)
        registry.require_verdicts(release)
        assert open_store().fetch(release.model.files).is_dir()
        with tempfile.TemporaryDirectory() as folder:
            source = client().get_model_version(name, version).source
            assert list(Path(mlflow.artifacts.download_artifacts(artifact_uri=source, dst_path=folder)).rglob("*.onnx"))
    known = ledger.entries(name)
    assert registry.aliased(client(), name, "champion") == champion
    assert (ledger.serving(known) or [None])[-1] == champion
    assert promotion.standing(client(), name) == ledger.serving(known)
    if moves is not None:
        assert [(entry["action"], entry["to"]) for entry in known] == moves
    return len(left)


def row(what: str, during: str, ends: str, left: int | str) -> None:
    """A row of the table, in the place of an earlier one for the same; nothing without the setting."""
    if not os.environ.get("EVERGREEN_WRITE_TABLE"):
        return
    with FileLock(Path(tempfile.gettempdir()) / "evergreen-reliability.lock"):  # pytest's workers write side by side
        before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
        old, _, after = rest.partition(END)
        rows = {tuple(line.split(" | ")[:2]): line for line in old.splitlines() if line.startswith("| ")}
        rows.pop(tuple(HEAD[0].split(" | ")[:2]), None)
        line = f"| {what} | {during} | {ends} | {left} |"
        rows[tuple(line.split(" | ")[:2])] = line
        text = "\n".join([before.rstrip("\n") + "\n", BEGIN, *HEAD, *rows.values(), END + (after or "\n")])
        staged = PAGE.with_name(".reliability.md")
        staged.write_text(text, encoding="utf-8")
        shutil.move(staged, PAGE)
