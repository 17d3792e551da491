"""prepare: normalise, drop what is no use, group near-duplicates, split for good, tokenise once."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mlops.config import SPLITS, PipelineConfig, Shares
from mlops.data.book import publish, read_book
from mlops.data.duplicates import join_groups, near_duplicate_groups
from mlops.data.encode import open_tokenizer, write_prepared
from mlops.data.snapshots import ROWS, read_table, revision
from mlops.data.splits import Assigned, Texts, group_keys, rows_per_split, split_as_given, split_by_hash
from mlops.data.text import normalise, text_key
from mlops.errors import StoreError
from mlops.store import Store, open_store
from mlops.training.base import resolve
from mlops.types import ArtifactRef, Base, Check, Snapshot, Verdict

log = logging.getLogger("evergreen")


class Row(NamedTuple):
    """A row that may be used. text: normalised. split: as in the raw snapshot. unit: value of columns.group."""

    row_id: str
    text: str
    label: str
    split: str
    key: str
    unit: str | None
    time: str | None


def prepare(config: PipelineConfig, snapshot: Snapshot, verdict: Verdict, base: Base) -> Snapshot:
    """The snapshot that models are trained and judged on: splits train, validation and test, tokenised.

    Raises Rejected when the data's verdict did not pass, when a split ends up without rows, or when a label has no row
    in train. Equal rows, book and tokenizer give an equal revision. Publishes the new split book.
    """
    verdict.require()
    store = open_store()
    tokenizer = open_tokenizer(resolve(base.uri), config.model.max_length)
    rows, quarantined = _usable(store, snapshot, verdict)
    distinct = _drop_copies(rows)
    texts = _group(distinct, config.prepare.near_duplicate)
    assigned = _assign(config, distinct, texts, read_book(store, snapshot.split_book))
    labels = sorted({row.label for row in distinct})
    _log_counts(rows, distinct, texts, assigned)
    _judge(assigned.splits, distinct, labels).require()
    splits = _store_splits(store, distinct, texts.groups, assigned.splits, tokenizer)
    counts = rows_per_split(assigned.splits)
    return Snapshot(
        pipeline=config.name,
        revision=revision(splits, labels),
        splits=splits,
        rows=counts,
        labels=tuple(labels),
        window=snapshot.window,
        parent_sha256=snapshot.split_book.sha256 if snapshot.split_book else None,
        quarantined=quarantined,
        deduplicated=len(rows) - sum(counts.values()),
        split_book=publish(store, config.name, snapshot.split_book, assigned.book),
    )


def _usable(store: Store, snapshot: Snapshot, verdict: Verdict) -> tuple[list[Row], int]:
    """The rows that were not set aside, normalised, and how many were."""
    import pyarrow.parquet as pq

    if verdict.report is None:
        raise StoreError("the data's verdict has no report, so nobody knows which rows it set aside; validate again")
    report = store.fetch(verdict.report)
    judged = json.loads((report / "validation.json").read_text(encoding="utf-8"))["revision"]
    if judged != snapshot.revision:
        raise StoreError(f"the verdict is about snapshot {judged}, this one is {snapshot.revision}; validate it")
    with pq.ParquetFile(report / "quarantine.parquet") as file:
        aside = file.read(columns=["split", "position"]).to_pydict()
    bad = set(zip(aside["split"], aside["position"], strict=True))
    rows = []
    for split, ref in snapshot.splits.items():
        table = read_table(store.fetch(ref))
        for place, values in enumerate(table.to_pylist()):
            if (split, place) not in bad:
                text = normalise(values["text"])
                unit, time = values.get("group"), values.get("time")
                rows.append(Row(values["row_id"], text, values["label"], split, text_key(text), unit, time))
    return rows, len(bad)


def _drop_copies(rows: Sequence[Row]) -> list[Row]:
    """One row per text and split, the one with the smallest id; none of a text that has several labels there."""
    kept: dict[tuple[str, str], Row] = {}
    labels: dict[tuple[str, str], set[str]] = {}
    for row in rows:
        place = (row.split, row.key)
        labels.setdefault(place, set()).add(row.label)
        if place not in kept or row.row_id < kept[place].row_id:
            kept[place] = row
    chosen = {place: row for place, row in kept.items() if len(labels[place]) == 1}
    contradicting = sum(len(labels[(row.split, row.key)]) > 1 for row in rows)
    if contradicting:
        log.warning("prepare: dropped %d rows whose texts have more than one label", contradicting)
    # Back in the source's order.
    return [row for row in rows if chosen.get((row.split, row.key)) is row]


def _group(rows: Sequence[Row], threshold: float | None) -> Texts:
    """The rows' groups: equal texts, near-duplicates, and rows of one unit belong together."""
    keys = [row.key for row in rows]
    first: dict[str, int] = {}
    numbers = [first.setdefault(key, len(first)) for key in keys]
    if threshold is not None and rows:
        texts = dict(zip(keys, (row.text for row in rows), strict=True))
        near = near_duplicate_groups(list(texts.values()), threshold)
        numbers = [int(near[number]) for number in numbers]
    names = group_keys(keys, numbers)
    units = [row.unit for row in rows]
    if any(unit is not None for unit in units):
        names = group_keys(keys, join_groups(names, units))
    return Texts(keys, [row.label for row in rows], names, units)


def _assign(config: PipelineConfig, rows: Sequence[Row], texts: Texts, book: Any) -> Assigned:
    if isinstance(config.data.splits, Shares):
        return split_by_hash(texts, config.data.splits, book)
    return split_as_given(texts, [row.split for row in rows], book)


def _log_counts(rows: Sequence[Row], distinct: Sequence[Row], texts: Texts, assigned: Assigned) -> None:
    sizes = Counter(texts.groups)
    near = sum(size for size in sizes.values() if size > 1)
    log.info("prepare: %d exact copies dropped of %d rows", len(rows) - len(distinct), len(rows))
    log.info("prepare: %d groups, %d rows in groups of more than one", len(sizes), near)
    for split, count in sorted(assigned.leaks.items()):
        log.info("prepare: %d rows kept out because they resemble rows of %s (leak guard)", count, split)
    log.info("prepare: rows %s", rows_per_split(assigned.splits))


def _judge(splits: Sequence[str], rows: Sequence[Row], labels: Sequence[str]) -> Verdict:
    """Every split needs a row, and every label one in train."""
    checks = [
        Check(name=f"rows:{name}", observed=count, allowed="1 or more", outcome="pass" if count else "fail")
        for name, count in rows_per_split(splits).items()
    ]
    trained = {row.label for row, split in zip(rows, splits, strict=True) if split == "train"}
    missing = [label for label in labels if label not in trained]
    checks.append(
        Check(
            name="labels:train",
            observed=len(trained),
            allowed=len(labels),
            outcome="fail" if missing else "pass",
            detail=f"no row in train of: {', '.join(missing[:20])}" if missing else "",
        )
    )
    return Verdict(subject="snapshot", checks=tuple(checks))


def _store_splits(
    store: Store, rows: Sequence[Row], groups: Sequence[str], splits: Sequence[str], tokenizer: Any
) -> dict[str, ArtifactRef]:
    stored = {}
    for name in SPLITS:
        chosen = [number for number, split in enumerate(splits) if split == name]
        part = [rows[number] for number in chosen]
        columns: dict[str, list[Any]] = {
            "row_id": _unique([row.row_id for row in part]),
            "text": [row.text for row in part],
            "label": [row.label for row in part],
            "group": [groups[number] for number in chosen],
        }
        for extra in ("unit", "time"):
            if any(getattr(row, extra) is not None for row in rows):
                columns[extra] = [getattr(row, extra) for row in part]
        with store.workspace() as folder:
            path: Path = folder / ROWS
            write_prepared(columns, tokenizer, path)
            stored[name] = store.put(folder, "prepared")
    return stored


def _unique(ids: Sequence[str]) -> list[str]:
    """Ids that tell rows apart, as pairing their scores needs: the second "a" becomes "a#2"."""
    taken = set(ids)
    seen: Counter[str] = Counter()
    unique = []
    for name in ids:
        seen[name] += 1
        fresh = name
        while seen[name] > 1 and (fresh := f"{name}#{seen[name]}") in taken:
            seen[name] += 1
        taken.add(fresh)
        unique.append(fresh)
    return unique
