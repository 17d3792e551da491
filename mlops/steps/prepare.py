"""prepare: normalise, drop what is no use, group near-duplicates, split for good, tokenise once."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mlops.config import SPLITS, PipelineConfig
from mlops.config_data import GOLDEN, SLICE, Shares
from mlops.data import book as books
from mlops.data.arrays import column, with_unique_ids
from mlops.data.copies import Distinct, distinct
from mlops.data.duplicates import join_units, near_duplicate_groups
from mlops.data.encode import encoded_columns
from mlops.data.forms import names_in
from mlops.data.golden import golden_checks, golden_rows, kept_out, resembling, without
from mlops.data.readers import source_columns
from mlops.data.snapshots import ROWS, revision
from mlops.data.splits import Assigned, Flags, Texts, group_names, newest, rows_per_split, split_as_given, split_by_hash
from mlops.data.tokens import TokenizerOf, open_tokenizer
from mlops.data.usable import report_of, usable_rows
from mlops.data.window import past_times
from mlops.data.words import Hashes, Indices
from mlops.errors import UserError
from mlops.store import Store, open_store
from mlops.tasks import get
from mlops.tasks.base import Task
from mlops.training.base import resolve
from mlops.types import ArtifactRef, Base, Check, Outcome, Snapshot, Verdict

if TYPE_CHECKING:
    import pyarrow as pa

log = logging.getLogger("evergreen")


class _Cleaned(NamedTuple):
    """rows: every usable row. chosen: those that stay after exact copies. assigned: their splits. dropped: label issues. golden:
    which of the chosen resemble golden rows."""

    rows: Any
    found: Distinct
    assigned: Assigned
    groups: Indices
    dropped: int
    golden: Flags


def prepare(config: PipelineConfig, snapshot: Snapshot, verdict: Verdict, base: Base) -> Snapshot:
    """The snapshot that models are trained and judged on: splits train, validation and test, tokenised.

    Raises Rejected when the data's verdict did not pass, when a split ends up without rows, or when a label has no row
    in train. Equal rows, book and tokenizer give an equal revision. Publishes the new split book.
    """
    verdict.require()
    store, task = open_store(), get(config.task_key)
    tokenizer = open_tokenizer(resolve(base.uri), config.model.max_length)
    rows, quarantined = usable_rows(store, snapshot, report_of(store, snapshot, verdict))
    rolling = config.data.test == "rolling"
    # Where test rows are the newest ones each time, nothing is remembered: they may train when they are older.
    book = books.empty_book() if rolling else books.read_book(store, snapshot.split_book)
    golden = golden_rows(store, snapshot)
    copied = 0
    if golden is not None:
        book = books.with_tests(book, column(golden, "key"), column(golden, "text"))
        rows, copied = without(rows, golden)
    cleaned = _clean(config, rows, book, snapshot.watermark, golden)
    chosen = rows.take(cleaned.found.kept)
    labels = _in_order(config, names_in(chosen["label"].unique().to_pylist(), config))
    judged = _judge(config, cleaned, chosen, labels)
    if golden is not None:
        near = chosen["row_id"].filter(_mask(cleaned.golden)).to_pylist()
        more = golden_checks(config, golden, labels, copied, near)
        judged = judged.model_copy(update={"checks": (*judged.checks, *more)})
    for check in judged.checks:
        if check.outcome == "warn":
            log.info("prepare: %s %s", check.observed, check.detail)
    judged.require()
    splits = _store_splits(task, store, chosen, cleaned, tokenizer)
    counts = rows_per_split(cleaned.assigned.splits)
    trained = sum(counts.values())
    if golden is not None:
        tested = chosen["row_id"].filter(_mask(cleaned.assigned.splits == books.TEST)).to_pylist()
        splits[GOLDEN] = _store_golden(task, store, golden, tokenizer, set(tested))
        counts[GOLDEN] = golden.num_rows
    log.info("prepare: rows %s", counts)
    return Snapshot(
        pipeline=config.name,
        revision=revision(splits, labels),
        splits=splits,
        rows=counts,
        labels=tuple(labels),
        window=snapshot.window,
        watermark=snapshot.watermark,
        parent_sha256=snapshot.parent_sha256,
        new_rows=snapshot.new_rows,
        quarantined=quarantined,
        deduplicated=rows.num_rows + copied - trained,
        split_book=snapshot.split_book
        if rolling
        else books.publish(store, config.name, snapshot.split_book, cleaned.assigned.book),
        verdict=judged,
    )


def _in_order(config: PipelineConfig, names: set[str]) -> list[str]:
    """Labels sorted; ordinal ones as the pipeline file orders them, else as numbers."""
    if config.data.target != "ordinal":
        return sorted(names)
    declared = config.data.labels
    if declared:
        return [label for label in declared if label in names]
    try:
        return sorted(names, key=float)
    except ValueError:
        raise UserError(
            f"data.labels: missing; ordinal labels that are no numbers need their order, found {', '.join(sorted(names))}"
        ) from None


def _clean(
    config: PipelineConfig, rows: pa.Table, book: pa.Table, watermark: str | None, golden: pa.Table | None
) -> _Cleaned:
    keys, parts = rows["key"].combine_chunks(), rows["split"].to_numpy().astype(np.int64)
    found = distinct(keys, parts - parts.min(initial=0), rows["label"].combine_chunks(), rows["row_id"])
    chosen = rows.take(found.kept).combine_chunks()
    frozen = books.unseen_test_texts(book, chosen["key"])
    tested = np.ones(chosen.num_rows + frozen.num_rows, dtype=bool)
    tested[: chosen.num_rows] = books.known_splits(book, column(chosen, "key")) == books.TEST
    near, groups = _grouped(chosen, frozen, tested, _threshold(config))
    texts = Texts(
        texts=column(chosen, "text"),
        keys=column(chosen, "key"),
        labels=column(chosen, "label").dictionary_encode().indices.to_numpy().astype(np.int64),
        units=column(chosen, "unit"),
        near=near,
        groups=groups,
    )
    assigned = _assigned(config, chosen, texts, book, watermark)
    alike = np.zeros(chosen.num_rows, dtype=bool)
    if golden is not None:
        alike = resembling(near, frozen["key"], golden)
        assigned = kept_out(assigned, alike)
    dropped = 0
    if config.prepare.drop_label_issues:
        # Only what would train: a test set that loses its difficult rows flatters every model.
        issue = chosen["issue"].to_numpy(zero_copy_only=False) & (assigned.splits == books.TRAIN)
        dropped = int(issue.sum())
        assigned = assigned._replace(splits=np.where(issue, np.int8(books.KEPT_OUT), assigned.splits))
    return _Cleaned(rows, found, assigned, groups, dropped, alike)


def _assigned(
    config: PipelineConfig, chosen: pa.Table, texts: Texts, book: pa.Table, watermark: str | None
) -> Assigned:
    """The split of each distinct row, as the pipeline file wants them cut."""
    shares = config.data.splits
    if isinstance(shares, Shares) and config.data.test == "rolling":
        times = past_times(column(chosen, "time"), config.data, watermark)
        given = newest(times, column(chosen, "row_id"), column(chosen, "unit"), shares.test)
        return split_as_given(texts, given, book, shares.validation / (shares.train + shares.validation))
    if isinstance(shares, Shares):
        return split_by_hash(texts, shares, book)
    return split_as_given(texts, chosen["split"].to_numpy(), book)


def _threshold(config: PipelineConfig) -> float | None:
    """From which similarity texts are one group. Pairs are only ever copies of each other unless the file says otherwise:
    candidates for one text are alike because they share that text."""
    given = "near_duplicate" in config.prepare.model_fields_set
    return config.prepare.near_duplicate if given or get(config.task_key).kind != "pair" else None


def _grouped(chosen: pa.Table, frozen: pa.Table, tested: Flags, threshold: float | None) -> tuple[Indices, Indices]:
    """(groups of copies and near-duplicates; the same with rows of one unit together), the frozen test texts behind the rows.

    tested: which of both are known test texts.
    """
    import pyarrow as pa

    def both(name: str) -> pa.Array:
        mine = column(chosen, name)
        return pa.concat_arrays([mine, column(frozen, name).cast(mine.type)])

    texts, keys, units = both("text"), both("key"), both("unit")
    codes = keys.dictionary_encode().indices.to_numpy().astype(np.int64)
    _, first, inverse = np.unique(codes, return_index=True, return_inverse=True)
    groups = first[inverse]
    if threshold is not None and len(first):
        near = near_duplicate_groups(texts.take(first), threshold, tested[first])
        groups = first[near[inverse]]
    return groups, join_units(groups, units) if units.null_count < len(units) else groups


def _judge(config: PipelineConfig, cleaned: _Cleaned, chosen: pa.Table, labels: list[str]) -> Verdict:
    """Every split needs a row, and every label one in train; what was kept out of training is counted."""
    splits = cleaned.assigned.splits
    checks = [
        Check(name=f"rows:{name}", observed=count, allowed="1 or more", outcome="pass" if count else "fail")
        for name, count in rows_per_split(splits).items()
    ]
    trained = names_in(chosen["label"].filter(_mask(splits == books.TRAIN)).unique().to_pylist(), config)
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
    checks += _leak_checks(cleaned, chosen, source_columns(config).group or "unit")
    for name, count, detail in (
        ("rows:contradicting", len(cleaned.found.contradicting), "rows dropped: their texts have more than one label"),
        ("rows:label_issue", cleaned.dropped, "rows dropped from train: their labels are probably wrong"),
    ):
        if count:
            checks.append(Check(name=name, observed=count, allowed=0, outcome="warn", detail=detail))
    copies = len(cleaned.found.copies)
    checks.append(Check(name="rows:copies", observed=copies, allowed="any", outcome="pass", detail="dropped"))
    return Verdict(subject="snapshot", checks=tuple(checks))


def _mask(flags: Any) -> pa.Array:
    import pyarrow as pa

    return pa.array(flags)


def _leak_checks(cleaned: _Cleaned, chosen: pa.Table, unit: str) -> list[Check]:
    """How many rows were kept out of training because they are test rows once more, resemble them or are of a test unit.

    unit: what the source calls columns.group.
    """
    splits = cleaned.assigned.splits
    copied = cleaned.rows.take(cleaned.found.copies).combine_chunks()
    where = books.known_splits(cleaned.assigned.book, column(copied, "key"))
    checks = []
    for name in ("test", "validation"):
        copies = copied.filter(_mask(where == books.CODES[name]))
        near = cleaned.assigned.leaks.get(name, 0)
        mates = cleaned.assigned.leaks.get("unit", 0) if name == "test" else 0
        count = copies.num_rows + near + mates
        detail = ""
        if count:
            out = (
                chosen.filter(_mask((splits == books.KEPT_OUT) & ~cleaned.golden))
                if near + mates
                else chosen.slice(0, 0)
            )
            ids = ", ".join([*copies["row_id"].to_pylist()[:3], *out["row_id"].to_pylist()[:3]])
            detail = f"rows kept out of training: {copies.num_rows} copies and {near} near-duplicates of {name} rows"
            if mates:
                detail += f", and {mates} others of a {unit} that has test rows"
            detail += f": {ids}"
        outcome: Outcome = "warn" if count and name == "test" else "pass"
        checks.append(Check(name=f"leaks:{name}", observed=count, allowed=0, outcome=outcome, detail=detail))
    return checks


def _store_splits(
    task: Task, store: Store, chosen: pa.Table, cleaned: _Cleaned, tokenizer: TokenizerOf
) -> dict[str, ArtifactRef]:
    import pyarrow as pa

    splits = cleaned.assigned.splits
    used = np.flatnonzero(splits != books.KEPT_OUT)
    # Before any row goes: the name of a group must not change with what is kept out of it.
    names = group_names(column(chosen, "key"), cleaned.groups)[used]
    table = _table(task, store, chosen.take(used).combine_chunks(), tokenizer, names)
    return {
        name: _store(store, with_unique_ids(table.filter(pa.array(splits[used] == books.CODES[name]))))
        for name in SPLITS
    }


def _table(task: Task, store: Store, rows: pa.Table, tokenizer: TokenizerOf, groups: Hashes) -> pa.Table:
    """Usable rows as a prepared split has them, with their tokens. groups: names of their near-duplicate groups."""
    import pyarrow as pa

    columns = {"row_id": rows["row_id"], "text": rows["text"], "label": rows["label"]}
    columns |= encoded_columns(task, store, tokenizer, rows)
    columns["group"] = pa.array(groups)
    more = [name for name in rows.column_names if name in ("unit", "time", "query") or name.startswith(SLICE)]
    table = pa.table(columns | {name: rows[name] for name in more})
    return table.drop_columns("unit") if table["unit"].null_count == table.num_rows else table


def _store(store: Store, table: pa.Table) -> ArtifactRef:
    import pyarrow.parquet as pq

    with store.workspace() as folder:
        pq.write_table(table, folder / ROWS, use_dictionary=["label"], row_group_size=1 << 16)
        return store.put(folder, "prepared")


def _store_golden(task: Task, store: Store, golden: pa.Table, tokenizer: TokenizerOf, tested: set[str]) -> ArtifactRef:
    """tested: ids of test rows, which golden ones may not share: what is shown of a row is found by its id."""
    names = group_names(column(golden, "key"), np.arange(golden.num_rows))
    return _store(store, with_unique_ids(_table(task, store, golden, tokenizer, names), tested))
