"""The per-row predictions of an evaluation, read from the store."""

from __future__ import annotations

from mlops.judgement import Rows
from mlops.store import open_store
from mlops.types import Evaluation


def load_rows(evaluation: Evaluation) -> Rows:
    """The evaluation's rows in the order of their ids; StoreError where the artifact is missing or damaged."""
    import pyarrow.parquet as pq

    path = open_store().fetch(evaluation.per_row) / "rows.parquet"
    names = ("row_id", "label", "predicted", "score", "group")
    with pq.ParquetFile(path) as file:
        there = [name for name in names if name in file.schema_arrow.names]
        table = file.read(columns=there).sort_by("row_id")
    # Evaluations of earlier versions have no groups: every row is one of its own.
    columns = [table.column(name if name in there else "row_id").to_pylist() for name in names]
    return Rows(*(tuple(column) for column in columns))
