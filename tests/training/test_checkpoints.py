"""A training that is killed, at any moment, ends with the very weights that it would have had undisturbed."""

from __future__ import annotations

import json
import logging
import os
import random
import resource
from pathlib import Path

import numpy as np
import pytest
import torch
from killing import after_calls, in_child
from tiny import tiny_base, tiny_config, tiny_release, tiny_run, tiny_snapshot

from mlops import settings
from mlops.steps.fine_tune import fine_tune
from mlops.store import digest_file, open_store
from mlops.training import checkpoints, loop
from mlops.training.base import pin
from mlops.training.checkpoints import Checkpoints
from mlops.training.device import chance_state, set_chance_state
from mlops.types import ModelArtifact, Snapshot

# Dropout is 0.1 in the tiny model: what it drops has to go on as well.
TRAIN = {"epochs": 3, "learning_rate": 5e-3, "batch_tokens": 256, "accumulate": 2, "checkpoint_seconds": 0}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_base(tmp_path_factory.mktemp("models") / "base")


def tune(base: Path, snapshot: Snapshot, **changes: object) -> ModelArtifact:
    return fine_tune(tiny_config(base, train=TRAIN | changes), snapshot, pin(str(base)), tiny_run(base))


def files(model: ModelArtifact) -> dict[str, str]:
    folder = open_store().fetch(model.files)
    return {path.name: digest_file(path) for path in folder.iterdir()}


def kept() -> list[Path]:
    """Folders of checkpoints, whole or not, oldest first."""
    return sorted(settings.current().cache.glob("training/*/*-*"))


@pytest.fixture
def snapshot(base: Path) -> Snapshot:
    return tiny_snapshot(base)


@pytest.fixture(scope="module")
def undisturbed(base: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """File digests of a training without any checkpoint inside an epoch, in a home of its own."""
    before = os.environ.get("EVERGREEN_HOME")
    os.environ["EVERGREEN_HOME"] = str(tmp_path_factory.mktemp("home"))
    try:
        return files(tune(base, tiny_snapshot(base), checkpoint_seconds=1000))
    finally:
        os.environ.pop("EVERGREEN_HOME")
        if before:
            os.environ["EVERGREEN_HOME"] = before


@pytest.mark.parametrize(
    ("owner", "name", "calls", "before"),
    [
        (Checkpoints, "save", 1, False),
        (Checkpoints, "save", 11, False),  # in the second epoch
        (Checkpoints, "_write", 9, True),
        (torch, "save", 14, False),  # in the middle of writing one
        (checkpoints, "build_manifest", 12, False),
        (Path, "rename", 7, False),  # renamed, and no manifest yet
        (loop.Training, "_judge", 2, True),
        (loop.Training, "_history", 1, True),  # trained, and nothing stored
    ],
)
def test_killed_anywhere_it_ends_with_the_same_weights(
    base: Path, snapshot: Snapshot, undisturbed: dict[str, str], owner: object, name: str, calls: int, before: bool
) -> None:
    def child() -> None:
        after_calls(owner, name, calls, before)
        tune(base, snapshot)

    assert in_child(child) == -9
    assert kept()
    assert files(tune(base, snapshot)) == undisturbed
    assert not kept()
    assert not list(settings.current().cache.glob("training/*"))


def test_killed_again_and_again(base: Path, snapshot: Snapshot, undisturbed: dict[str, str]) -> None:
    def child() -> None:
        after_calls(Checkpoints, "save", 4)
        tune(base, snapshot)

    deaths = 0
    while in_child(child) == -9:
        deaths += 1
    assert deaths >= 3
    assert files(tune(base, snapshot)) == undisturbed


@pytest.mark.parametrize("harm", ["truncated", "changed", "without manifest", "manifest torn", "state gone"])
def test_a_damaged_checkpoint_is_passed_over(
    base: Path,
    snapshot: Snapshot,
    undisturbed: dict[str, str],
    harm: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def child() -> None:
        after_calls(Checkpoints, "save", 10)
        tune(base, snapshot)

    assert in_child(child) == -9
    older, newest = kept()
    data = (newest / "weights.pt").read_bytes()
    if harm == "truncated":
        (newest / "weights.pt").write_bytes(data[: len(data) // 2])
    elif harm == "changed":
        (newest / "weights.pt").write_bytes(data[:-100] + bytes(100))
    elif harm == "without manifest":
        (newest / "manifest.json").unlink()
    elif harm == "manifest torn":
        (newest / "manifest.json").write_text('{"files": {"sta')
    else:
        (newest / "state.json").unlink()
    with caplog.at_level(logging.INFO, "evergreen"):
        model = tune(base, snapshot)
    assert f"the checkpoint {newest.name} is not whole and is passed over" in caplog.text
    epoch, step = (int(part) for part in older.name.split("-"))
    assert f"goes on at epoch {epoch} after step {step}" in caplog.text
    assert files(model) == undisturbed


def test_other_settings_are_another_training(base: Path, snapshot: Snapshot, caplog: pytest.LogCaptureFixture) -> None:
    def child() -> None:
        after_calls(Checkpoints, "save", 5)
        tune(base, snapshot)

    assert in_child(child) == -9
    with caplog.at_level(logging.INFO, "evergreen"):
        tune(base, snapshot, seed=14)
        assert "goes on" not in caplog.text
        tune(base, snapshot, checkpoint_seconds=7)  # decides nothing
        assert "goes on" in caplog.text


def test_two_are_kept_and_leftovers_go(tmp_path: Path) -> None:
    made = Checkpoints(tmp_path / "key", 0)
    torn = tmp_path / "key" / "000001-000000002"
    for step in range(1, 5):
        made.save(1, step, {"at": step}, {"x": torch.full((2,), step)})
        if step == 2:
            (torn / "manifest.json").unlink()
            (tmp_path / "key" / ".000001-000000009-abc").mkdir()
    assert [path.name for path in sorted((tmp_path / "key").iterdir())] == ["000001-000000003", "000001-000000004"]
    found = made.newest()
    assert found is not None
    assert found[0] == {"at": 4}
    assert found[1]["x"].tolist() == [4, 4]


def test_what_was_given_up_long_ago_goes(tmp_path: Path) -> None:
    old, young, own = (Checkpoints(tmp_path / name, 0) for name in ("old", "young", "own"))
    for each in (old, young, own):
        each.save(1, 1, {}, {"x": torch.zeros(1)})
    os.utime(old.folder, (0, 0))
    own.remove()
    assert [path.name for path in tmp_path.iterdir()] == ["young"]


def test_a_pickle_in_a_checkpoint_does_not_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    made = Checkpoints(tmp_path / "key", 0)
    made.save(1, 1, {"at": 1}, {"x": torch.zeros(1)})

    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(tmp_path / "ran"),)

    folder = tmp_path / "key" / "000001-000000001"
    torch.save(Evil(), folder / "x.pt")
    (folder / "manifest.json").write_text(json.dumps(checkpoints.build_manifest(folder)))
    assert made.newest() is None
    assert "is passed over" in caplog.text
    assert not (tmp_path / "ran").exists()


def test_a_full_disk_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "key").write_text("a file where the folder should be")
    Checkpoints(tmp_path / "key", 0).save(1, 2, {}, {})
    assert "no checkpoint at epoch 1, step 2" in caplog.text


def test_a_disk_that_fills_up_while_weights_are_written_is_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = Checkpoints(tmp_path / "key", 0)
    made.save(1, 1, {"step": 1}, {"weights": {"w": torch.zeros(8)}})
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, before[1]))  # torch raises RuntimeError, not OSError
    try:
        made.save(1, 2, {"step": 2}, {"weights": {"w": torch.zeros(1 << 20)}})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "no checkpoint at epoch 1, step 2" in caplog.text
    found = made.newest()
    assert found is not None
    assert found[0] == {"step": 1}
    assert [path.name for path in (tmp_path / "key").iterdir()] == ["000001-000000001"]


def test_a_warm_start_on_other_test_rows_is_another_training(base: Path, snapshot: Snapshot) -> None:
    """Its rows are drawn by the revision, and rows of test may forbid it: a checkpoint of the one is not the other's."""
    config = tiny_config(base, train=TRAIN | {"warm_start": {}})
    champion = tiny_release()
    model = champion.model.model_copy(update={"parent_sha256": "0" * 64})
    run = tiny_run(base).model_copy(update={"champion": champion.model_copy(update={"model": model})})
    other = snapshot.model_copy(update={"revision": "1" * 64})
    one, two = (checkpoints.place(config, each, run.base, run, 1, "cpu") for each in (snapshot, other))
    assert one != two
    config = tiny_config(base, train=TRAIN)
    one, two = (checkpoints.place(config, each, run.base, run, 1, "cpu") for each in (snapshot, other))
    assert one == two


def test_chance_goes_on_where_it_was() -> None:
    def draw() -> list[float]:
        return [random.random(), random.gauss(0, 1), np.random.rand(), np.random.randn(), float(torch.rand(1))]

    draw()
    state = chance_state()
    first = draw()
    draw()
    set_chance_state(state)
    assert draw() == first
