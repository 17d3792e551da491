"""Score one form of a model on one split, and keep what every row got."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mlops.errors import UserError
from mlops.serving.runtime import Runtime
from mlops.statistics.bootstrap import intervals
from mlops.store import open_store
from mlops.tasks import get
from mlops.tasks.base import Answers, Judged
from mlops.types import Evaluation, Latency, ModelArtifact, Snapshot

if TYPE_CHECKING:
    import pyarrow as pa

_TIMED_ROWS = 200
_WARM_UP = 10


def score(model: ModelArtifact, snapshot: Snapshot, split: str = "test", latency: bool = True) -> Evaluation:
    """Metrics with intervals of a torch or ONNX variant, from the split's texts; ONNX through the serving runtime.

    Rows whose label the model does not know count as wrong. latency: also time single requests (ONNX only).
    Raises UserError for a split that is not there or has no rows, StoreError for files that are missing or damaged.
    """
    store, task = open_store(), get(model.task)
    if not snapshot.rows.get(split):
        raise UserError(f"the snapshot has no rows in {split!r}; it has {snapshot.rows}")
    table = _read(store.fetch(snapshot.splits[split]))
    predictor = _open(store.fetch(model.files), model.variant)
    items = [task.item(text) for text in table["text"].to_pylist()]
    answers = task.answers(predictor.logits(items), predictor.labels)
    rows = judged(table, answers)
    with store.workspace() as place:
        _write(place / "rows.parquet", table, answers, rows)
        per_row = store.put(place, "scores")
    labels = predictor.labels
    return Evaluation(
        model_sha256=model.files.sha256,
        snapshot_sha256=snapshot.revision,
        split=split,
        metrics=intervals(task.statistics(rows, labels), lambda totals: task.values(totals, labels)),
        outputs=labels,
        per_row=per_row,
        latency=time_requests(predictor, items) if latency and isinstance(predictor, Runtime) else None,
        size=model.files.size_bytes,
    )


def judged(table: pa.Table, answers: Answers) -> Judged:
    """A split's rows with one model's answers."""
    groups = table["query"] if "query" in table.column_names else table["row_id"]
    return Judged(table["label"].to_pylist(), answers.predicted, answers.scores.tolist(), groups.to_pylist())


def _open(folder: Path, variant: str) -> Any:
    """What answers `logits(items)` and has `labels`."""
    if variant != "torch":
        return Runtime.load(folder)
    from mlops.training.predictor import TorchPredictor

    return TorchPredictor(folder)


def _read(folder: Path) -> pa.Table:
    import pyarrow.parquet as pq

    with pq.ParquetFile(folder / "rows.parquet") as file:
        extra = [name for name in ("query",) if name in file.schema_arrow.names]
        return file.read(columns=["row_id", "text", "label", "n_tokens", *extra])


def _write(path: Path, table: pa.Table, answers: Answers, rows: Judged) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {
        "row_id": table["row_id"],
        "label": table["label"],
        "predicted": pa.array(answers.predicted, pa.string()),
        "score": pa.array(answers.scores),
        "n_tokens": table["n_tokens"],
        "group": pa.array(rows.groups, pa.string()),
        "probabilities": pa.array(answers.chances, pa.list_(pa.float32())),
    }
    pq.write_table(pa.table(columns), path)


def time_requests(runtime: Runtime, items: list[Any], rows: int = _TIMED_ROWS) -> Latency:
    """p50 and p95 in milliseconds of a request with one item, over up to `rows` items spread over the split."""
    chosen = [items[round(place)] for place in np.linspace(0, len(items) - 1, min(rows, len(items)))]
    for item in chosen[:_WARM_UP]:
        runtime.predict([item])
    taken = []
    for item in chosen:
        started = time.perf_counter()
        runtime.predict([item])
        taken.append((time.perf_counter() - started) * 1000)
    p50, p95 = np.percentile(taken, [50, 95])
    return Latency(p50=float(p50), p95=float(p95))
