"""What this machine, these settings and a pipeline file can do, before anything is spent on a GPU."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import sys
from collections.abc import Callable
from typing import Any

from mlops import settings
from mlops.config import PipelineConfig
from mlops.errors import UserError
from mlops.types import Verdict

PACKAGES = (
    "apache-airflow",
    "mlflow",
    "torch",
    "transformers",
    "great-expectations",
    "onnxruntime",
    "boto3",
)


def check_pipeline(config: PipelineConfig) -> tuple[Verdict, dict[str, Any]]:
    """Pins the base model, reads and validates the data; the verdict, and facts for a person.

    Raises UserError; where both the base model and the data cannot be reached, one that names both.
    Not `prepare`: it would write down which rows are test rows for good, which is a run's business.
    """
    from mlops import tasks
    from mlops.steps.source import source
    from mlops.steps.validate import validate
    from mlops.training.base import pin

    try:
        base = pin(config.model.base)
    except UserError as error:
        try:
            source(config)
        except UserError as other:
            raise UserError(f"{error}\n  {other}") from error
        raise
    raw = source(config)
    task = tasks.get(config.task_key)
    tasks.require_metric(task, config.gate.metric, task.outputs(raw.labels))
    facts = {"base": f"{base.uri} ({base.sha256[:12]})", "rows": raw.rows, "labels": list(raw.labels)}
    return validate(config, raw, base, raw.parent_sha256), facts


def profile_pipeline(config: PipelineConfig) -> str:
    """A first suite for the pipeline's data, as YAML text. Raises UserError where data or base model cannot be read."""
    from mlops.data.checks import check_rows
    from mlops.expectations.profile import first_suite
    from mlops.steps.source import source
    from mlops.steps.validate import known_facts, load_rows, suite_frame
    from mlops.store import open_store
    from mlops.training.base import pin

    base, store = pin(config.model.base), open_store()
    table = load_rows(store, source(config))
    frame = suite_frame(store, table, check_rows(table, config, ()), None)
    if not len(frame):
        raise UserError(f"none of {table.num_rows} rows is usable: mlops check says why; there is nothing to profile")
    return first_suite(frame, config, known_facts(store, config, base, None))


def examine() -> list[dict[str, str]]:
    """One entry per fact: name, outcome (pass, warn or fail) and detail."""
    found = []
    for name, look in (
        ("python", _python),
        ("packages", _packages),
        ("processor", _processor),
        ("gpu", _gpu),
        ("disk", _disk),
        ("store", _store),
        ("mlflow", _mlflow),
    ):
        try:
            outcome, detail = look()
        except Exception as error:
            outcome, detail = "fail", f"{type(error).__name__}: {error}"
        found.append({"name": name, "outcome": outcome, "detail": detail})
    return found


Look = Callable[[], tuple[str, str]]


def _python() -> tuple[str, str]:
    good = (3, 11) <= sys.version_info[:2] <= (3, 13)
    return "pass" if good else "fail", f"{platform.python_version()}; allowed: 3.11 to 3.13"


def _packages() -> tuple[str, str]:
    return "pass", ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES)


def _processor() -> tuple[str, str]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return "pass", f"{platform.machine()}, {cores} cores for this process"


def _gpu() -> tuple[str, str]:
    import torch

    if not torch.cuda.is_available():
        return "warn", f"none that torch {torch.__version__} can use; training runs on the processor"
    return "pass", ", ".join(torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count()))


def _disk() -> tuple[str, str]:
    home = settings.current().home
    place = next(path for path in (home, *home.parents) if path.exists())
    free = shutil.disk_usage(place).free / 1e9
    return "pass" if free >= 5 else "warn", f"{free:.1f} GB free for {home}; a retrain of a small model wants 5"


def _store() -> tuple[str, str]:
    from mlops.store import open_store

    store = open_store()
    store.write_document("doctor", {"written": True})
    good = store.read_document("doctor") == {"written": True}
    return (
        "pass" if good else "fail",
        f"{settings.current().store}: {'writes and reads' if good else 'reads other than it wrote'}",
    )


def _mlflow() -> tuple[str, str]:
    from mlops import registry

    names = registry.names()
    return "pass", f"{settings.current().tracking_uri}: {len(names)} registered model{'s' if len(names) != 1 else ''}"
