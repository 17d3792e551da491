"""Score one form of a model on one split, and keep what every row got."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mlops.config_data import GOLDEN, SLICE
from mlops.errors import UserError
from mlops.judging.answers import metric_values, unit_statistics
from mlops.rows import load
from mlops.serving.runtime import Runtime
from mlops.statistics.bootstrap import intervals
from mlops.store import open_store
from mlops.tasks import get
from mlops.tasks.base import Answers, Judged, Task
from mlops.training.rows import digest
from mlops.types import ArtifactRef, Evaluation, Latency, ModelArtifact, Snapshot

if TYPE_CHECKING:
    import pyarrow as pa

_TIMED_ROWS = 200
_WARM_UP = 10


def score(
    model: ModelArtifact, snapshot: Snapshot, split: str = "test", latency: bool = True, behaviour: Sequence[Any] = ()
) -> Evaluation:
    """Metrics with intervals of a torch or ONNX variant, from the split's texts; ONNX through the serving runtime.

    Rows whose label the model does not know count as wrong. latency: also time single requests (ONNX only). behaviour:
    groups of behaviour cases to ask. The snapshot's golden rows are answered too.
    Raises UserError for a split that is not there or has no rows, StoreError for files that are missing or damaged.
    """
    task = get(model.task)
    if not snapshot.rows.get(split):
        raise UserError(f"the snapshot has no rows in {split!r}; it has {snapshot.rows}")
    table = read_split(snapshot, split)
    predictor = open_predictor(model)
    items = [task.item(text) for text in table["text"].to_pylist()]
    per_row = keep(table, task.answers(predictor.logits(items), predictor.labels))
    golden = None
    if split != GOLDEN and snapshot.rows.get(GOLDEN):
        hand = read_split(snapshot, GOLDEN)
        asked = [task.item(text) for text in hand["text"].to_pylist()]
        golden = keep(hand, task.answers(predictor.logits(asked), predictor.labels))
    return Evaluation(
        model_sha256=model.files.sha256,
        snapshot_sha256=snapshot.revision,
        split=split,
        metrics=measured(task, per_row, predictor.labels),
        outputs=predictor.labels,
        per_row=per_row,
        latency=time_requests(predictor, items) if latency and isinstance(predictor, Runtime) else None,
        size=model.files.size_bytes,
        temperature=predictor.temperature,
        golden=golden,
        behaviour=_behaviour(behaviour, predictor, task, table["row_id"].to_pylist(), items),
    )


def measured(task: Task, per_row: ArtifactRef, labels: Sequence[str]) -> dict[str, Any]:
    """Every metric of the task with its interval over the sampling units."""
    rows = load(per_row)
    return intervals(unit_statistics(task, rows, rows.judged, labels), metric_values(task, labels))


def _behaviour(groups: Sequence[Any], predictor: Any, task: Task, ids: list[str], items: list[Any]) -> tuple[Any, ...]:
    if not groups:
        return ()
    from mlops.behaviour import examine

    return tuple(examine(groups, predictor, task, list(zip(ids, items, strict=True))))


def judged(table: pa.Table, answers: Answers) -> Judged:
    """A split's rows with one model's answers."""
    groups = table["query"] if "query" in table.column_names else table["row_id"]
    return Judged(table["label"].to_pylist(), answers.predicted, answers.scores.tolist(), groups.to_pylist())


def open_predictor(model: ModelArtifact) -> Any:
    """What answers `logits(items)` and has `labels`: the serving runtime, or torch for the variant of that name."""
    folder = open_store().fetch(model.files)
    if model.variant != "torch":
        return Runtime.load(folder)
    from mlops.training.predictor import TorchPredictor

    return TorchPredictor(folder)


def read_split(snapshot: Snapshot, split: str) -> pa.Table:
    """The rows of a prepared split, without their tokens."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(open_store().fetch(snapshot.splits[split]) / "rows.parquet") as file:
        there = file.schema_arrow.names
        more = [name for name in there if name in ("query", "unit") or name.startswith(SLICE)]
        return file.read(columns=["row_id", "text", "label", "n_tokens", *more])


def texts_of(snapshot: Snapshot) -> dict[str, str]:
    """{row id: text} of the test rows and the golden rows: what reports show examples of."""
    found: dict[str, str] = {}
    for split in ("test", GOLDEN):
        if snapshot.rows.get(split):
            table = read_split(snapshot, split)
            found |= dict(zip(table["row_id"].to_pylist(), table["text"].to_pylist(), strict=True))
    return found


def keep(table: pa.Table, answers: Answers) -> ArtifactRef:
    """Stores what every row was answered: an artifact of the kind "scores"."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    rows = judged(table, answers)
    texts, more = table["text"].to_pylist(), ("query",) if "query" in table.column_names else ()
    said = zip(texts, rows.labels, *(table[name].to_pylist() for name in more), strict=True)
    columns = {
        "row_id": table["row_id"],
        "label": table["label"],
        "predicted": pa.array(answers.predicted, pa.string()),
        "score": pa.array(answers.scores),
        "n_tokens": table["n_tokens"],
        "n_chars": pc.utf8_length(table["text"]).cast(pa.int32()),
        "digest": pa.array([digest(*cells) for cells in said], pa.uint64()),
        "group": pa.array(rows.groups, pa.string()),
        "probabilities": pa.array(answers.chances, pa.list_(pa.float32())),
    }
    columns |= {name: table[name] for name in table.column_names if name == "unit" or name.startswith(SLICE)}
    store = open_store()
    with store.workspace() as place:
        pq.write_table(pa.table(columns), place / "rows.parquet")
        return store.put(place, "scores")


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
