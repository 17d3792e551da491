"""A disk that is full from a step on: the retrain says so and ends, the champion stays, and with room again it goes on."""

from __future__ import annotations

import contextlib
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from outcomes import empty_registry, end, row, short_retrain
from tiny import tiny_artifact, tiny_config, tiny_models, tiny_release, tiny_snapshot
from zygote import keep_proofs

from mlops import pipeline, promotion, registry
from mlops.cli import main
from mlops.steps.evaluate import evaluate
from mlops.tracking import client

SIZE = 100  # MB
STEPS = ("fine_tune", "register", "promote")


class Disk:
    """Where everything lives. full: no more bytes; where nothing may be mounted, no file that grows beyond 1,000 of them."""

    def __init__(self, place: Path) -> None:
        self.place = place
        place.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}m", "none", str(place)]
        self.mounted = (
            shutil.which("mount") is not None
            and subprocess.run(mount, check=False, capture_output=True).returncode == 0
        )

    def full(self) -> None:
        if not self.mounted:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
            return
        with (self.place / "ballast").open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(1 << 20))
        assert shutil.disk_usage(self.place).free == 0

    def room(self) -> None:
        if self.mounted:
            (self.place / "ballast").unlink(missing_ok=True)
        else:
            hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
            resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))

    def close(self) -> None:
        self.room()
        if self.mounted:
            subprocess.run(["umount", "-l", str(self.place)], check=True)


@pytest.fixture
def disk(home: Path) -> Iterator[Disk]:
    found = Disk(home)
    yield found
    found.close()


@pytest.fixture
def champion(disk: Disk) -> None:
    """Version 1, scored as a step scores it, so that a candidate is judged beside it."""
    empty_registry()
    base = tiny_models()["base"]
    snapshot = tiny_snapshot(base)
    model = tiny_artifact("fp32", snapshot)
    scored = evaluate(tiny_config(base), model, snapshot)
    release = tiny_release().model_copy(update={"model": model, "evaluation": scored})
    promotion.promote("tiny", registry.register(release, {}, None).version, "a test")


def full_at(name: str, disk: Disk, real: Callable[..., Any]) -> Callable[..., Any]:
    """`pipeline.run_step` on a disk that is full from the start of that step on."""

    def run_step(step: Any, *arguments: Any, **named: Any) -> Any:
        if step.name == name:
            disk.full()
        return real(step, *arguments, **named)

    return run_step


def test_a_disk_that_is_full_at_a_step(
    disk: Disk, champion: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["run", str(short_retrain(tmp_path))]
    keep_proofs(tmp_path, monkeypatch.setattr)
    real = pipeline.run_step
    for step in STEPS:
        monkeypatch.setattr(pipeline, "run_step", full_at(step, disk, real))
        capsys.readouterr()
        assert main(command) == 1
        said = capsys.readouterr().err.split("mlops run:")[-1]
        assert any(why in said for why in ("No space left", "disk is full", "File too large", "disk I/O")), (step, said)
        disk.room()
        assert registry.aliased(client(), "tiny", "champion") == "1"
        registry.require_verdicts(registry.at("tiny", "1"))
    monkeypatch.setattr(pipeline, "run_step", real)
    assert main([*command, "--json"]) == 0
    versions = [each["version"] for each in registry.releases("tiny")]
    assert len(versions) == 2
    left = end("tiny", versions, versions[-1], [("promote", "1"), ("promote", versions[-1])])
    assert left > 0 or not disk.mounted
    for step in STEPS:
        row("the disk is full", f"`{step}`", "failed, and says so; promoted when run again with room", f"{left} in all")
