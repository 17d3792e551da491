"""Checkpoints: a training that is killed goes on where it was; only whole ones count, whatever moment it was killed at."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

from mlops import settings
from mlops.code import code_sha256, libraries
from mlops.config import PipelineConfig
from mlops.errors import StoreError
from mlops.serving.cpu import computes_bf16
from mlops.store import MANIFEST, build_manifest, check_manifest
from mlops.types import Base, Run, Snapshot, identity

log = logging.getLogger("evergreen")

_KEPT = 2
_FORGOTTEN = 30 * 86_400  # seconds after which nobody comes back to a training
_STATE = "state.json"


def place(config: PipelineConfig, snapshot: Snapshot, base: Base, run: Run, processes: int, device: str) -> Path:
    """The folder of a training's checkpoints, named by all that decides what comes out of it."""
    train = config.train.model_dump(mode="json", exclude={"checkpoint_seconds"})
    champion = run.champion.model.parent_sha256 if run.champion and config.train.warm_start else None
    key = {
        # Not its revision: a trial's share of the rows, or its tokens by another tokenizer, go under the same one.
        "rows": {name: snapshot.splits[name].sha256 for name in ("train", "validation")},
        "labels": snapshot.labels,
        "base": base.sha256,
        "champion": champion,
        # Which rows a warm start begins with: they are drawn by it, and rows of test may forbid one.
        "drawn": snapshot.revision if champion else None,
        "task": config.task_key,
        "metric": config.gate.metric,
        "train": train,
        "max_length": config.model.max_length,
        "processes": processes,
        "device": device,
        "bf16": computes_bf16(),
        "libraries": libraries(),
        "code": code_sha256(),
    }
    return settings.current().cache / "training" / identity(key)


@dataclass
class Checkpoints:
    """Those of one training, in `folder`; the newest two are kept. seconds: between two inside of an epoch.

    One is a folder EPOCH-STEP with tensors by name (NAME.pt, read with weights_only) and state.json. It is written
    under another name, hashed and renamed; its manifest comes last, and without a right one it does not count.
    """

    folder: Path
    seconds: float
    _last: float = field(default_factory=time.monotonic)

    def due(self) -> bool:
        """Whether the time for one has come."""
        return time.monotonic() - self._last >= self.seconds

    def save(self, epoch: int, step: int, state: Mapping[str, Any], tensors: Mapping[str, Any]) -> None:
        """Writes one; a full disk is a warning and not the end of a training."""
        target = self.folder / f"{epoch:06}-{step:09}"
        temporary = self.folder / f".{target.name}-{uuid.uuid4().hex[:8]}"
        try:
            self._write(temporary, target, state, tensors)
        except (OSError, RuntimeError) as error:  # torch says RuntimeError when a file cannot be written
            told = " ".join(str(error).split())[:300]
            log.warning("fine_tune: no checkpoint at epoch %d, step %d: %s; training goes on", epoch, step, told)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        self._last = time.monotonic()
        self._prune(target)

    def _write(self, temporary: Path, target: Path, state: Mapping[str, Any], tensors: Mapping[str, Any]) -> None:
        import torch

        temporary.mkdir(parents=True)
        for name, values in tensors.items():
            torch.save(values, temporary / f"{name}.pt")
        (temporary / _STATE).write_text(json.dumps(state), encoding="utf-8")
        manifest = build_manifest(temporary)
        shutil.rmtree(target, ignore_errors=True)  # what another process began, or a torn one
        temporary.rename(target)
        # Not forced to the disk: what a power failure tears has other digests, and then the one before it is used.
        unnamed = target / f".{MANIFEST}"
        unnamed.write_text(json.dumps(manifest), encoding="utf-8")
        os.replace(unnamed, target / MANIFEST)

    def newest(self, device: str = "cpu") -> tuple[dict[str, Any], dict[str, Any]] | None:
        """(state, tensors by name) of the newest whole checkpoint; damaged ones are passed over with a warning."""
        import torch

        for folder in sorted(self._all(), reverse=True):
            try:
                manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
                check_manifest(folder, manifest)
                state = json.loads((folder / _STATE).read_text(encoding="utf-8"))
                files = sorted(folder.glob("*.pt"))
                return state, {path.stem: torch.load(path, map_location=device, weights_only=True) for path in files}
            except (OSError, ValueError, KeyError, TypeError, RuntimeError, UnpicklingError, StoreError) as error:
                log.warning("fine_tune: the checkpoint %s is not whole and is passed over: %s", folder.name, error)
        return None

    def remove(self) -> None:
        """Takes all of them away: the training has its artifact. So do those of trainings that were given up long ago."""
        shutil.rmtree(self.folder, ignore_errors=True)
        for other in self.folder.parent.iterdir() if self.folder.parent.is_dir() else ():
            with contextlib.suppress(OSError):
                if time.time() - other.stat().st_mtime > _FORGOTTEN:
                    shutil.rmtree(other, ignore_errors=True)

    def _all(self) -> list[Path]:
        if not self.folder.is_dir():
            return []
        return [path for path in self.folder.iterdir() if path.is_dir() and not path.name.startswith(".")]

    def _prune(self, newest: Path) -> None:
        """Only whole ones count towards those kept; what a killed process left under a dotted name goes as well."""
        whole = sorted((path for path in self._all() if (path / MANIFEST).exists()), reverse=True)
        kept = set(whole[:_KEPT])
        for path in self.folder.iterdir() if self.folder.is_dir() else ():
            if path not in kept and path != newest:
                shutil.rmtree(path, ignore_errors=True)
