"""Score one form of a model on one split, and keep what every row got."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mlops.errors import UserError
from mlops.serving.runtime import Runtime
from mlops.statistics.classification import metrics
from mlops.store import open_store
from mlops.tasks.text_classification import probabilities
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
    store = open_store()
    if not snapshot.rows.get(split):
        raise UserError(f"the snapshot has no rows in {split!r}; it has {snapshot.rows}")
    table = _read(store.fetch(snapshot.splits[split]))
    folder = store.fetch(model.files)
    predictor = _open(folder, model.variant)
    texts = table["text"].to_pylist()
    chances = probabilities(predictor.logits(texts))
    names = predictor.labels
    predicted = chances.argmax(axis=1).astype(np.int64)
    truth = _positions(table["label"].to_pylist(), names)
    with store.workspace() as place:
        _write(place / "rows.parquet", table, names, truth, predicted, chances)
        per_row = store.put(place, "scores")
    return Evaluation(
        model_sha256=model.files.sha256,
        snapshot_sha256=snapshot.revision,
        split=split,
        metrics=metrics(truth, predicted, names),
        per_row=per_row,
        latency=time_requests(predictor, texts) if latency and isinstance(predictor, Runtime) else None,
        size=model.files.size_bytes,
    )


def _open(folder: Path, variant: str) -> Any:
    """What answers `logits(texts)` and has `labels`."""
    if variant != "torch":
        return Runtime.load(folder)
    from mlops.training.predictor import TorchPredictor

    return TorchPredictor(folder)


def _read(folder: Path) -> pa.Table:
    import pyarrow.parquet as pq

    with pq.ParquetFile(folder / "rows.parquet") as file:
        return file.read(columns=["row_id", "text", "label", "n_tokens"])


def _positions(labels: list[str], names: tuple[str, ...]) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Places of the labels in the model's; -1 for those that it does not know."""
    place = {name: position for position, name in enumerate(names)}
    return np.array([place.get(label, -1) for label in labels], dtype=np.int64)


def _write(path: Path, table: pa.Table, names: tuple[str, ...], truth: Any, predicted: Any, chances: Any) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = np.arange(len(truth))
    known = truth >= 0
    p_label = np.zeros(len(truth))
    p_label[known] = chances[rows[known], truth[known]]
    columns = {
        "row_id": table["row_id"],
        "label": table["label"],
        "predicted": pa.array([names[position] for position in predicted], pa.string()),
        "score": pa.array(chances[rows, predicted]),
        "p_label": pa.array(p_label),
        "n_tokens": table["n_tokens"],
        "probabilities": pa.array(list(chances.astype(np.float32)), pa.list_(pa.float32())),
    }
    pq.write_table(pa.table(columns), path)


def time_requests(runtime: Runtime, texts: list[str], rows: int = _TIMED_ROWS) -> Latency:
    """p50 and p95 in milliseconds of `predict` with one text, over up to `rows` texts spread over the split."""
    chosen = [texts[round(place)] for place in np.linspace(0, len(texts) - 1, min(rows, len(texts)))]
    for text in chosen[:_WARM_UP]:
        runtime.predict([text])
    taken = []
    for text in chosen:
        started = time.perf_counter()
        runtime.predict([text])
        taken.append((time.perf_counter() - started) * 1000)
    p50, p95 = np.percentile(taken, [50, 95])
    return Latency(p50=float(p50), p95=float(p95))
