"""Golden rows: chosen by hand, never trained on, always judged."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mlops.config import PipelineConfig
from mlops.config_data import GOLDEN
from mlops.data.arrays import column
from mlops.data.book import KEPT_OUT, UNSEEN
from mlops.data.checks import REASONS, Fault, check_rows, illegal_tags
from mlops.data.forms import names_in
from mlops.data.snapshots import read_table
from mlops.data.splits import Assigned, Flags
from mlops.data.usable import keyed
from mlops.data.words import Indices
from mlops.store import Store
from mlops.types import Check, Snapshot

if TYPE_CHECKING:
    import pyarrow as pa


def golden_check(store: Store, snapshot: Snapshot, config: PipelineConfig, labels: set[str]) -> list[Check]:
    """Every golden row is of use, or the data set is rejected: what was chosen by hand is never set aside in silence.

    labels: those that usable rows of the data have.
    """
    if GOLDEN not in snapshot.splits:
        return []
    table = read_table(store.fetch(snapshot.splits[GOLDEN]))
    # Few as they are, their labels are never rare.
    faults = check_rows(table, config, sorted(labels) or ("any",))
    faults |= illegal_tags(table, faults, config)
    for place, cell in enumerate(table["label"].to_pylist()):
        if place not in faults and (strange := sorted(names_in([cell], config) - labels)):
            has = ", ".join(sorted(labels)[:20]) or "none"
            faults[place] = Fault("unknown_label", f"found {strange[0][:100]!r}; the data has {has}")
    ids = table["row_id"].to_pylist()
    bad = [
        f"{ids[place][:100]}: {fault.reason}, {_told(fault)}"
        for place, fault in sorted(faults.items(), key=lambda entry: entry[0])
    ]
    return [
        Check(
            name=GOLDEN,
            observed=len(bad),
            allowed=0,
            outcome="fail" if bad else "pass",
            detail=f"golden rows that cannot be judged; mend them in gate.golden: {'; '.join(bad[:5])}"
            if bad
            else f"{len(ids)} golden rows",
        )
    ]


def _told(fault: Fault) -> str:
    return fault.detail if fault.reason in ("unknown_label", "illegal_tags") else REASONS[fault.reason]


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


def resembling(near: Indices, keys: pa.Array, golden: pa.Table) -> Flags:
    """Which rows [n] are in one group with a golden text.

    near [n + m]: groups of the rows and of the m known test texts behind them, whose keys [m] are given.
    """
    import pyarrow.compute as pc

    count = len(near) - len(keys)
    by_hand = pc.is_in(keys, column(golden, "key")).to_numpy(zero_copy_only=False)
    return np.isin(near[:count], near[count:][by_hand])


def kept_out(assigned: Assigned, alike: Flags) -> Assigned:
    """The same without the rows [n] that resemble golden ones: also those that are test rows, by the book or by their time,
    so that nothing is judged twice. They count as leaks of golden rows, not of test rows."""
    counted = int((alike & (assigned.splits == KEPT_OUT)).sum())
    leaks = {name: count - (counted if name == "test" else 0) for name, count in assigned.leaks.items()}
    splits = np.where(alike, np.int8(KEPT_OUT), assigned.splits).astype(np.int8)
    return assigned._replace(splits=splits, leaks={name: count for name, count in leaks.items() if count})


def golden_checks(
    config: PipelineConfig, golden: pa.Table, labels: list[str], copied: int, near: list[str]
) -> list[Check]:
    """Golden labels are among those that a model learns; what was kept out because of golden rows is counted.

    copied: rows with a golden text. near: ids of rows that resemble one.
    """
    shown = ", ".join(name[:100] for name in near[:3])
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
            observed=copied + len(near),
            allowed="any",
            outcome="pass",
            detail=f"rows kept out of every split: {copied} copies and {len(near)} near-duplicates of golden rows"
            + (f": {shown}" if near else ""),
        ),
    ]
