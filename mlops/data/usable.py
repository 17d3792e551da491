"""The rows of a raw snapshot that may be used: those that validation did not set aside, normalised and keyed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mlops.config_data import SLICE
from mlops.data.book import CODES, UNSEEN
from mlops.data.snapshots import own_splits, read_table
from mlops.data.text import digests, normalise_all
from mlops.errors import StoreError
from mlops.store import Store
from mlops.types import Snapshot, Verdict

if TYPE_CHECKING:
    import pyarrow as pa


def usable_rows(store: Store, snapshot: Snapshot, report: Path) -> tuple[pa.Table, int]:
    """(rows, how many were set aside). Columns: row_id, text (normalised), label, digest, key, unit, split (a code of
    `mlops.data.book`, UNSEEN where the pipeline cuts its splits itself), issue (validation suspects the label), time
    and query where the source has them."""
    import pyarrow as pa

    aside = _places(report / "quarantine.parquet")
    suspects = _places(report / "suspects.parquet")
    parts, out = [], 0
    for split, ref in own_splits(snapshot).items():
        table = read_table(store.fetch(ref))
        issue = np.zeros(table.num_rows, dtype=bool)
        issue[suspects.get(split, [])] = True
        table = table.append_column("issue", pa.array(issue))
        if split in aside:
            keep = np.ones(table.num_rows, dtype=bool)
            keep[aside[split]] = False
            out += len(keep) - int(keep.sum())
            table = table.filter(pa.array(keep))
        parts.append(keyed(table, CODES.get(split, UNSEEN)))
    return pa.concat_tables(parts), out


def keyed(table: pa.Table, split: int) -> pa.Table:
    """The rows of a raw table with the columns of `usable_rows`; issue has to be there."""
    import pyarrow as pa

    def column(name: str) -> pa.Array:
        if name not in table.column_names:
            return pa.nulls(table.num_rows, pa.string())
        if name == "text":
            return table[name].cast(pa.large_string()).combine_chunks()
        return table[name].combine_chunks()

    # Large: the offsets of a plain string column end at 2 GB of text.
    text = normalise_all(column("text"))
    columns = {
        "row_id": column("row_id"),
        "text": text,
        "label": column("label"),
        "digest": column("digest"),
        "key": digests(text, folded=True),
        "unit": column("group"),
        "split": pa.array(np.full(table.num_rows, split, dtype=np.int8)),
        "issue": column("issue"),
    }
    more = [name for name in table.column_names if name in ("time", "query") or name.startswith(SLICE)]
    return pa.table(columns | {name: column(name) for name in more})


def _places(path: Path) -> dict[str, list[int]]:
    """Positions by split; nothing where there is no such file."""
    import pyarrow.parquet as pq

    found: dict[str, list[int]] = {}
    if path.exists():
        with pq.ParquetFile(path) as file:
            table = file.read(columns=["split", "position"])
        for split, position in zip(table["split"].to_pylist(), table["position"].to_pylist(), strict=True):
            found.setdefault(split, []).append(position)
    return found


def report_of(store: Store, snapshot: Snapshot, verdict: Verdict) -> Path:
    """The folder of the report that says which rows were set aside; StoreError unless it is about this snapshot."""
    if verdict.report is None:
        raise StoreError("the data's verdict has no report, so nobody knows which rows it set aside; validate again")
    report = store.fetch(verdict.report)
    judged = json.loads((report / "validation.json").read_text(encoding="utf-8"))["revision"]
    if judged != snapshot.revision:
        raise StoreError(f"the verdict is about snapshot {judged}, this one is {snapshot.revision}; validate it")
    return report
