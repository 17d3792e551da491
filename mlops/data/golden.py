"""Golden rows: chosen by hand, never trained on, always judged."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mlops.config import PipelineConfig
from mlops.config_data import GOLDEN
from mlops.data.arrays import column
from mlops.data.book import UNSEEN
from mlops.data.forms import names_in
from mlops.data.snapshots import read_table
from mlops.data.usable import keyed
from mlops.store import Store
from mlops.types import Check, Snapshot

if TYPE_CHECKING:
    import pyarrow as pa


def golden_check(store: Store, snapshot: Snapshot) -> list[Check]:
    """Every golden row is of use, or the data set is rejected: what was chosen by hand is never set aside in silence."""
    if GOLDEN not in snapshot.splits:
        return []
    rows = read_table(store.fetch(snapshot.splits[GOLDEN]), ["row_id", "text", "label", "problem"]).to_pylist()
    bad = [
        f"{row['row_id']}: {row['problem'] or ('no text' if not (row['text'] or '').strip() else 'no label')}"
        for row in rows
        if row["problem"] or not (row["text"] or "").strip() or row["label"] is None
    ]
    return [
        Check(
            name=GOLDEN,
            observed=len(bad),
            allowed=0,
            outcome="fail" if bad else "pass",
            detail=f"golden rows that cannot be judged: {'; '.join(bad[:5])}" if bad else f"{len(rows)} golden rows",
        )
    ]


def golden_rows(store: Store, snapshot: Snapshot) -> pa.Table | None:
    """The golden rows with the same columns; none where the pipeline has no such file. Validation saw to their problems."""
    import pyarrow as pa

    if GOLDEN not in snapshot.splits:
        return None
    table = read_table(store.fetch(snapshot.splits[GOLDEN]))
    return keyed(table.append_column("issue", pa.array(np.zeros(table.num_rows, dtype=bool))), UNSEEN)


def without(rows: pa.Table, golden: pa.Table) -> tuple[pa.Table, int]:
    """(rows less those whose text is a golden one, how many went)."""
    import pyarrow.compute as pc

    there = pc.is_in(rows["key"], column(golden, "key"))
    return rows.filter(pc.invert(there)), int(pc.sum(there).as_py() or 0)


def golden_checks(config: PipelineConfig, golden: pa.Table, labels: list[str], copied: int) -> list[Check]:
    """Golden labels are among those that a model learns; what was kept out because of golden rows is counted."""
    strange = sorted(names_in(golden["label"].unique().to_pylist(), config) - set(labels))
    return [
        Check(
            name="golden:labels",
            observed=len(strange),
            allowed=0,
            outcome="fail" if strange else "pass",
            detail=f"labels of golden rows that the data does not have: {', '.join(strange[:20])}" if strange else "",
        ),
        Check(
            name="leaks:golden",
            observed=copied,
            allowed="any",
            outcome="pass",
            detail="rows left out because they are golden ones; what resembles those counts among leaks:test",
        ),
    ]
