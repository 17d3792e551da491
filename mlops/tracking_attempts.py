"""Every file that the compression search tried as a LoggedModel of its run, with what it scored on the validation rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from mlops.tracking_models import log_metrics
from mlops.types import Attempt

PREFIX = "validation/"  # their metrics are not those of the test rows


def log_attempts(api: Any, run_id: str, attempts: Sequence[Attempt]) -> None:
    """One model per attempt that left a file, named tried-NUMBER-FORM."""
    import mlflow

    home = api.get_run(run_id).info.experiment_id
    for number, attempt in enumerate(attempts):
        if attempt.files is None:
            continue
        params = {"variant": attempt.name, "sha256": attempt.files.sha256, "keep": ", ".join(attempt.recipe["keep"])}
        params["fused"] = ", ".join(f"{name} {count}" for name, count in attempt.fused.items())
        model = mlflow.create_external_model(
            name=f"tried-{number:02}-{attempt.name.replace('+', '-')}",
            source_run_id=run_id,
            params={name: value[:250] for name, value in params.items() if value},
            tags={"evergreen.outcome": attempt.outcome, "evergreen.reason": attempt.reason[:5000]},
            experiment_id=home,
        )
        log_metrics(api, run_id, dict(_metrics(attempt)), of={"model_id": model.model_id})


def _metrics(attempt: Attempt) -> Iterator[tuple[str, float]]:
    for name, metric in attempt.metrics.items():
        yield f"{PREFIX}{name}", metric.value
    if attempt.drop:
        yield from zip((f"{PREFIX}drop{end}" for end in ("", "/low", "/high")), attempt.drop, strict=True)
    for name in ("flips", "ece"):
        value = getattr(attempt, name)
        if value is not None:
            yield f"{PREFIX}{name}", value
    names = ("p50", "p95", "p99", "p50_ratio", "throughput", "ratio", "memory_mb", "size_mb", "load_seconds")
    yield from ((f"measured/{name}", float(attempt.measured[name])) for name in names if name in attempt.measured)
