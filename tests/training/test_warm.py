"""Warm start: new rows and a share of the old ones from the champion's weights; a full training where that cannot be."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file
from tiny import LABELS, put_prepared, tiny_base, tiny_config, tiny_release, tiny_rows, tiny_run

from mlops.data.snapshots import revision
from mlops.steps.fine_tune import fine_tune
from mlops.store import open_store
from mlops.tasks.base import Examples
from mlops.training import rows as row_files
from mlops.training.base import pin
from mlops.types import ModelArtifact, Run, Snapshot

TRAIN = {"epochs": 3, "learning_rate": 5e-3, "batch_tokens": 256}
ROWS = [row | {"row_id": f"row-{number:03}"} for number, row in enumerate(tiny_rows(300))]
OLD, ALL, VALIDATION, TEST = ROWS[:120], ROWS[:170], ROWS[200:240], ROWS[240:280]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_base(tmp_path_factory.mktemp("models") / "base")


def snapshot_of(base: Path, **parts: list[dict[str, str]]) -> Snapshot:
    parts = {"train": OLD, "validation": VALIDATION, "test": TEST} | parts
    splits = {split: put_prepared(rows, base) for split, rows in parts.items()}
    labels = tuple(sorted({row["label"] for row in parts["train"]}))
    rows = {split: len(chosen) for split, chosen in parts.items()}
    return Snapshot(pipeline="tiny", revision=revision(splits, labels), splits=splits, rows=rows, labels=labels)


def tune(base: Path, snapshot: Snapshot, run: Run | None = None, **changes: object) -> ModelArtifact:
    return fine_tune(tiny_config(base, train=TRAIN | changes), snapshot, pin(str(base)), run or tiny_run(base))


def behind(model: ModelArtifact, base: Path, **changes: object) -> Run:
    """A retrain whose champion was exported from this model."""
    shipped = model.model_copy(update={"variant": "fp32", "parent_sha256": model.files.sha256} | changes)
    return tiny_run(base).model_copy(update={"champion": tiny_release().model_copy(update={"model": shipped})})


def told(model: ModelArtifact) -> dict[str, Any]:
    return json.loads((open_store().fetch(model.files) / "training.json").read_text())


def weights(model: ModelArtifact) -> dict[str, np.ndarray]:
    return load_file(open_store().fetch(model.files) / "model.safetensors")


def test_new_rows_and_a_share_of_the_old_from_the_champions_weights(
    base: Path, caplog: pytest.LogCaptureFixture
) -> None:
    champion = tune(base, snapshot_of(base), epochs=6)
    with caplog.at_level(logging.INFO, "evergreen"):
        warm = tune(base, snapshot_of(base, train=ALL), behind(champion, base), warm_start={"replay": 0.3}, epochs=1)
    done = told(warm)["warm_start"]
    assert done["from"] == champion.files.sha256
    assert done["new_rows"] == 50
    assert 20 <= done["replayed_rows"] <= 55
    assert told(warm)["rows"]["train"] == 50 + done["replayed_rows"]
    assert "begins with the champion's weights: 50 new rows" in caplog.text
    forgotten = done["forgetting"]
    assert forgotten["rows"] == 40
    assert forgotten["difference"] == pytest.approx(forgotten["after"] - forgotten["before"])
    assert forgotten["before"] == pytest.approx(max(epoch["metric"] for epoch in told(champion)["epochs"]))
    # One epoch of a warm start knows more than one from the beginning.
    assert (
        told(warm)["epochs"][0]["loss"] < told(tune(base, snapshot_of(base, train=ALL), epochs=1))["epochs"][0]["loss"]
    )
    folder = open_store().fetch(warm.files)
    assert len(row_files.read(folder / "trained_on.npy")) == 170
    assert len(row_files.read(folder / "validated_on.npy")) == 40


def test_a_rate_of_zero_leaves_the_champions_weights(base: Path) -> None:
    champion = tune(base, snapshot_of(base))
    warm = tune(base, snapshot_of(base, train=ALL), behind(champion, base), warm_start={}, learning_rate=0.0)
    for name, value in weights(champion).items():
        np.testing.assert_array_equal(weights(warm)[name], value)
    assert told(warm)["warm_start"]["forgetting"]["difference"] == 0


def test_what_is_forgotten_is_a_warning(base: Path, caplog: pytest.LogCaptureFixture) -> None:
    champion = tune(base, snapshot_of(base), epochs=6)
    # What it learns now contradicts what it knew.
    turned = dict(zip(LABELS, LABELS[1:] + LABELS[:1], strict=True))
    new = [row | {"label": turned[row["label"]]} for row in ROWS[120:170]]
    snapshot = snapshot_of(base, train=OLD + new, validation=[*VALIDATION, ROWS[280] | {"label": "plants"}])
    warm = tune(base, snapshot, behind(champion, base), warm_start={"replay": 0.0}, epochs=4)
    done = told(warm)["warm_start"]
    assert done["replayed_rows"] == 0
    assert done["forgetting"]["rows"] == 40
    assert done["forgetting"]["difference"] < -0.01
    assert "worse by more than gate.margin (0.01): raise train.warm_start.replay" in caplog.text


def other_labels(base: Path) -> Snapshot:
    return snapshot_of(base, train=[row for row in ALL if row["label"] != "waters"], validation=[], test=[])


@pytest.mark.parametrize(
    ("reason", "snapshot", "changes"),
    [
        ("no row is new to the champion", snapshot_of, {}),
        ("40 rows of test are among those", lambda base: snapshot_of(base, train=ALL, test=OLD[:40]), {}),
        ("3 rows of validation are among", lambda base: snapshot_of(base, train=ALL, validation=OLD[:3]), {}),
        ("the champion's task is text-ranking", None, {"task": "text-ranking"}),
        ("tuned from another base model", None, {"base_model": f"elsewhere@{'1' * 64}"}),
        ("does not say which torch weights", None, {"parent_sha256": None}),
        ("are no longer in the store", None, {"parent_sha256": "2" * 64}),
        ("outputs are metals, plants, waters; now they are metals, plants", other_labels, {}),
    ],
)
def test_a_full_training_says_why(
    base: Path, reason: str, snapshot: Any, changes: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    champion = tune(base, snapshot_of(base), epochs=1)
    now = snapshot(base) if snapshot else snapshot_of(base, train=ALL)
    with caplog.at_level(logging.INFO, "evergreen"):
        model = tune(base, now, behind(champion, base, **changes), warm_start={"replay": 0.5}, epochs=1)
    assert "a full training although train.warm_start is set" in caplog.text
    assert reason in caplog.text
    assert "warm_start" not in told(model)
    assert told(model)["rows"]["train"] == now.rows["train"]


def test_without_a_champion_or_its_rows(base: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "evergreen"):
        champion = tune(base, snapshot_of(base), warm_start={}, epochs=1)
    assert "there is no champion" in caplog.text
    store = open_store()
    with store.workspace() as folder:
        for path in store.fetch(champion.files).iterdir():
            if path.name not in ("trained_on.npy", "manifest.json"):
                (folder / path.name).write_bytes(path.read_bytes())
        stripped = champion.model_copy(update={"files": store.put(folder, "model")})
    with caplog.at_level(logging.INFO, "evergreen"):
        tune(base, snapshot_of(base, train=ALL), behind(stripped, base), warm_start={}, epochs=1)
    assert "does not say what it was trained on" in caplog.text


def test_not_asked_for_the_champion_changes_nothing(base: Path) -> None:
    champion = tune(base, snapshot_of(base), epochs=1)
    cold = tune(base, snapshot_of(base, train=ALL), epochs=1)
    assert tune(base, snapshot_of(base, train=ALL), behind(champion, base), epochs=1).files == cold.files


def test_digests_are_of_text_and_label_alone(base: Path) -> None:
    store = open_store()

    def of(rows: list[dict[str, str]]) -> dict[str, int]:
        return row_files.digests(store.fetch(put_prepared(rows, base)))

    first = of(OLD[:3])
    assert list(first) == ["row-000", "row-001", "row-002"]
    assert list(of([row | {"row_id": f"x{number}"} for number, row in enumerate(OLD[:3])]).values()) == [
        *first.values()
    ]
    assert of([OLD[0] | {"label": "plants"}])["row-000"] != first["row-000"]
    assert of([OLD[0] | {"text": "other"}])["row-000"] != first["row-000"]


def test_a_sample_is_stable_and_about_as_large_as_asked() -> None:
    rows = {f"r{number}": number * 977 for number in range(4000)}
    some = row_files.sample(rows, rows, 0.25, "a")
    assert 900 < len(some) < 1100
    assert row_files.sample(dict(reversed(rows.items())), set(rows), 0.25, "a") == some
    assert row_files.sample(rows, rows, 0.25, "b") != some
    assert row_files.sample(rows, rows, 0.0, "a") == set()
    assert row_files.sample(rows, rows, 1.0, "a") == set(rows)


def test_a_subset_keeps_what_belongs_to_a_row() -> None:
    ids = [np.array([number], dtype=np.int32) for number in range(5)]
    whole = Examples(
        ["a", "b", "b", "c", "d"],
        ids,
        [10, 11, 12, 13, 14],
        [1] * 5,
        list("qqrrs"),
        [(0, 0), (1, 0), (1, 7), (2, 0), (3, 0)],
    )
    part = row_files.subset(whole, {"b", "d"})
    assert part.row_ids == ["b", "b", "d"]
    assert part.targets == [11, 12, 14]
    assert part.groups == ["q", "r", "s"]
    assert part.places == [(0, 0), (0, 7), (1, 0)]
    assert [int(each[0]) for each in part.input_ids] == [1, 2, 4]


def test_files_that_are_no_digests_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([{"a": 1}]), allow_pickle=True)
    with pytest.raises(ValueError, match="allow_pickle"):
        row_files.read(tmp_path / "x.npy")
    np.save(tmp_path / "y.npy", np.zeros(3))
    with pytest.raises(ValueError, match=r"y\.npy holds float64 of 1 axes; allowed: uint64"):
        row_files.read(tmp_path / "y.npy")
