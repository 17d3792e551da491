"""Several real processes over gloo: the same training as one, the first error, nothing left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from killing import in_ranks, start
from safetensors.numpy import load_file, save_file
from tiny import tiny_base, tiny_config, tiny_run, tiny_snapshot
from trainings import plain_base, same_training

from mlops.config_train import LaunchSection
from mlops.errors import BaseModelError, EvergreenError, UserError
from mlops.steps.fine_tune import fine_tune
from mlops.store import open_store
from mlops.training import launch
from mlops.training.base import pin
from mlops.training.fit import Job, fit

TRAIN = {"epochs": 2, "learning_rate": 5e-3, "batch_tokens": 256}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return plain_base(tmp_path_factory.mktemp("models") / "base")


def tuned(base: Path, count: int, strategy: str = "ddp", **changes: object) -> tuple[dict, dict[str, np.ndarray]]:
    """(training.json, weights) of a training in `count` processes."""
    train = TRAIN | {"launch": {"processes": count, "strategy": strategy}} | changes
    model = fine_tune(tiny_config(base, train=train), tiny_snapshot(base), pin(str(base)), tiny_run(base))
    folder = open_store().fetch(model.files)
    return json.loads((folder / "training.json").read_text()), load_file(folder / "model.safetensors")


def test_two_processes_train_like_one(base: Path, capfd: pytest.CaptureFixture[str]) -> None:
    one, expected = tuned(base, 1)
    two, weights = tuned(base, 2)
    same_training(one, two)
    assert (one["processes"], two["processes"]) == (1, 2)
    for name, value in expected.items():
        np.testing.assert_allclose(weights[name], value, atol=2e-3, err_msg=name)
    said = capfd.readouterr()
    assert "on cpu in fp32, 2 processes (ddp); 1 x 256 tokens per step" in said.err
    assert said.err.count("epoch 1/2 done") == 1
    assert said.out == ""


def test_rows_that_break_the_loss_are_named_with_their_process(tmp_path: Path) -> None:
    base = plain_base(tmp_path / "base")
    values = load_file(base / "model.safetensors")
    values["encoder.layer.0.output.dense.bias"][0] = np.nan
    save_file(values, base / "model.safetensors", {"format": "pt"})
    with pytest.raises(
        EvergreenError, match=r"rank [01] of 2: the loss is not finite at epoch 1, step 1, .*row-0\d+ \(nan\)"
    ):
        tuned(base, 2)
    assert not list((tmp_path / "home" / "cache" / "work").iterdir())


def test_an_error_keeps_its_kind(base: Path, tmp_path: Path) -> None:
    pinned = pin(str(base)).model_copy(update={"sha256": "0" * 64})
    config = tiny_config(base, train=TRAIN | {"launch": {"processes": 2}})
    with pytest.raises(BaseModelError, match=r"rank [01] of 2: .*pinned at the start of this run was 000"):
        fine_tune(config, tiny_snapshot(base), pinned, tiny_run(base))


def children(pid: int) -> list[int]:
    """Of a process and of all its threads."""
    return [int(child) for path in Path(f"/proc/{pid}/task").glob("*/children") for child in path.read_text().split()]


def alive(pid: int) -> bool:
    """Whether a process runs: a zombie that nobody has waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def listening(pid: int) -> set[str]:
    """The addresses on which a process listens, as hexadecimal words."""
    own = {os.readlink(path) for path in Path(f"/proc/{pid}/fd").iterdir() if path.is_symlink()}
    lines = [
        line.split()
        for kind in ("tcp", "tcp6")
        for line in Path(f"/proc/{pid}/net/{kind}").read_text().splitlines()[1:]
    ]
    return {line[1].partition(":")[0] for line in lines if line[3] == "0A" and f"socket:[{line[9]}]" in own}


def until(true: object, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not true():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_killed_with_its_children_it_goes_on(tmp_path: Path, home: Path) -> None:
    base = tiny_base(tmp_path / "base")  # with dropout: every process has its own to go on with
    long = {"epochs": 4, "batch_tokens": 128, "accumulate": 2, "checkpoint_seconds": 0}
    process = start(lambda: tuned(base, 2, **long))
    until(lambda: list(home.glob("cache/training/*/00000[2-4]-*/manifest.json")) or not process.is_alive())
    assert process.is_alive()
    workers = children(process.pid)
    assert len(workers) == 2
    assert {address for pid in workers for address in listening(pid)} == {
        "0100007F"
    }  # 127.0.0.1, as the kernel writes it
    process.kill()
    process.join()
    until(lambda: not any(map(alive, workers)))
    assert list(home.glob("cache/training/*"))
    resumed, weights = tuned(base, 2, **long)
    assert not list(home.glob("cache/training/*"))
    config = tiny_config(base, train=TRAIN | long | {"launch": {"processes": 2}})
    (tmp_path / "whole").mkdir()
    job = Job(config, tiny_snapshot(base), pin(str(base)), tiny_run(base), tmp_path / "whole", tmp_path / "unused")
    in_ranks("ddp", lambda ranks: fit(job, ranks))
    assert resumed == json.loads((job.folder / "training.json").read_text())
    for name, value in load_file(job.folder / "model.safetensors").items():
        np.testing.assert_array_equal(weights[name], value)


def test_a_process_that_is_killed_ends_the_others(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, seen = launch._wait, []

    def wait(processes: list[subprocess.Popen[bytes]], hear: Callable[[], None]) -> list[int]:
        seen.extend(processes)
        os.kill(processes[1].pid, signal.SIGKILL)
        return real(processes, hear)

    monkeypatch.setattr(launch, "_wait", wait)
    with pytest.raises(EvergreenError, match=r"rank 1 of 2: ended by SIGKILL.*lower train\.batch_tokens"):
        tuned(base, 2)
    assert not any(alive(process.pid) for process in seen)


def test_how_many_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert launch.processes(LaunchSection()) == 1
    assert launch.processes(LaunchSection(processes=3)) == 3
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert launch.processes(LaunchSection()) == 2
    with pytest.raises(UserError, match=r"train\.launch\.processes: found 3; allowed: 1 to 2, one for each GPU"):
        launch.processes(LaunchSection(processes=3))
