"""The per-row answers of an evaluation, read from the store."""

from __future__ import annotations

from typing import Any

from mlops.config_data import SLICE
from mlops.judging.answers import Rows
from mlops.store import open_store
from mlops.types import ArtifactRef, Evaluation

_FIELDS = {"row_id": "ids", "label": "labels", "predicted": "predicted", "score": "scores", "group": "groups"} | {
    "n_tokens": "n_tokens",
    "n_chars": "n_chars",
    "digest": "digests",
    "probabilities": "chances",
}


def load_rows(evaluation: Evaluation) -> Rows:
    """The evaluation's rows in the order of their ids; StoreError where the artifact is missing or damaged."""
    return load(evaluation.per_row)


def load(ref: ArtifactRef) -> Rows:
    """The same of any artifact of per-row answers."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(open_store().fetch(ref) / "rows.parquet") as file:
        table = file.read().sort_by("row_id")
    values: dict[str, Any] = {}
    for name, field in _FIELDS.items():
        if name in table.column_names:
            values[field] = tuple(table.column(name).to_pylist())
    # Evaluations of earlier versions have no groups: every row is one of its own.
    values.setdefault("groups", values["ids"])
    if "unit" in table.column_names:
        units = zip(table.column("unit").to_pylist(), values["ids"], strict=True)
        values["units"] = tuple(f"unit {unit}" if unit is not None else f"row {row}" for unit, row in units)
    columns = {
        name.removeprefix(SLICE): tuple(table.column(name).to_pylist())
        for name in table.column_names
        if name.startswith(SLICE)
    }
    return Rows(**values, columns=columns)
