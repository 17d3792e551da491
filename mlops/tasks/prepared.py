"""The columns of a prepared split, as tasks read them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mlops.errors import UserError
from mlops.tasks.base import Ids

_OPTIONAL = ("second", "query", "bounds", "starts")


class Columns(NamedTuple):
    """One entry per row. seconds: where the second text of a pair begins. groups: what a row is ranked within.

    bounds: ends of the windows in input_ids; starts: where in input_ids each token of the text is answered for. Each of
    the last four is none where the task has no such thing.
    """

    row_ids: list[str]
    labels: list[str]
    input_ids: list[Ids]
    seconds: list[int] | None
    groups: list[str] | None
    bounds: list[Ids] | None
    starts: list[Ids] | None


def columns_of(folder: Path) -> Columns:
    """Reads rows.parquet of a prepared split."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(folder / "rows.parquet") as file:
        there = [name for name in _OPTIONAL if name in file.schema_arrow.names]
        table = file.read(columns=["row_id", "label", "input_ids", *there])

    def plain(name: str) -> Any:
        return table[name].to_pylist() if name in there else None

    def lists(name: str) -> Any:
        return int_lists(table[name]) if name in there else None

    return Columns(
        table["row_id"].to_pylist(),
        table["label"].to_pylist(),
        int_lists(table["input_ids"]),
        plain("second"),
        plain("query"),
        lists("bounds"),
        lists("starts"),
    )


def int_lists(column: Any) -> list[Ids]:
    """The rows of a pyarrow list<int32> column as views on one array: a million rows cost little more than their ids."""
    lists = column.combine_chunks()
    flat, bounds = lists.values.to_numpy(), lists.offsets.to_numpy()
    return [flat[start:end] for start, end in itertools.pairwise(bounds)]


def label_places(row_ids: Sequence[str], names: Sequence[str], labels: Sequence[str]) -> list[int]:
    """Positions of the names in the labels; UserError names the rows whose label is not among them."""
    place = {label: position for position, label in enumerate(labels)}
    refuse([row for row, name in zip(row_ids, names, strict=True) if name not in place], labels)
    return [place[name] for name in names]


def refuse(rows: Sequence[str], labels: Sequence[str]) -> None:
    """UserError unless there are no rows."""
    if rows:
        raise UserError(
            f"{len(rows)} rows have labels that are not among {', '.join(labels)}; such as {', '.join(rows[:5])}"
        )


def positions(names: Sequence[str], labels: Sequence[str]) -> npt.NDArray[np.int64]:
    """Positions of the names in the labels; -1 for one that is not among them."""
    place = {label: position for position, label in enumerate(labels)}
    return np.array([place.get(name, -1) for name in names], dtype=np.int64)
