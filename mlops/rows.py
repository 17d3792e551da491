"""The per-row predictions of an evaluation, read from the store."""

from __future__ import annotations

from mlops.judgement import Rows
from mlops.store import open_store
from mlops.types import Evaluation


def load_rows(evaluation: Evaluation) -> Rows:
    """The evaluation's rows in the order of their ids; StoreError where the artifact is missing or damaged."""
    import pyarrow.parquet as pq

    path = open_store().fetch(evaluation.per_row) / "rows.parquet"
    table = pq.read_table(path, columns=["row_id", "label", "predicted"]).sort_by("row_id")
    ids, labels, predicted = (tuple(table.column(name).to_pylist()) for name in ("row_id", "label", "predicted"))
    return Rows(ids, labels, predicted)
