"""validate: the data gate. Sets unusable rows aside, with the reason, and judges the rest by the pipeline's suite."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mlops.config import PipelineConfig
from mlops.data.checks import (
    Fault,
    check_rows,
    good_rows,
    illegal_tags,
    limit_checks,
    repeated_id_check,
    row_problem_checks,
)
from mlops.data.findings import column_checks
from mlops.data.forms import names_in
from mlops.data.golden import golden_check
from mlops.data.parents import recorded
from mlops.data.snapshots import own_splits, read_table
from mlops.data.suspects import suspect_check, write_suspects
from mlops.expectations.docs import publish_docs, publish_quarantine
from mlops.expectations.entries import declared_labels
from mlops.expectations.suite import run_suite
from mlops.store import Store, open_store
from mlops.types import Base, Check, Snapshot, Verdict

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

log = logging.getLogger("evergreen")

PREVIEW = 200  # characters of a text in quarantine.parquet


def validate(
    config: PipelineConfig, snapshot: Snapshot, base: Base | None = None, parent: str | None = None
) -> Verdict:
    """Judges a raw snapshot; a failing verdict is returned, not raised, so that its report is kept.

    base: whose tokenizer tells the lengths. parent: revision of the snapshot that shifts are measured from. Row checks
    come first, then the suite on the rows that passed them, then the search for wrong labels. The report holds
    quarantine.parquet, quarantine/, suspects.parquet, validation.json and data_docs/. Raises UserError for an entry of the
    suite that is no expectation.
    """
    store = open_store()
    table = load_rows(store, snapshot)
    faults = check_rows(table, config, declared_labels(config))
    checks: list[Check] = row_problem_checks(table, faults)
    checks += column_checks(table, config)
    if config.data.columns.id:
        checks.append(repeated_id_check(table))
    earlier = recorded(store, config.name, parent) if parent else None
    frame = suite_frame(store, table, faults, earlier)
    with store.workspace() as folder:
        judged = run_suite(
            frame, config, snapshot.revision[:12], folder / "data_docs", known_facts(store, config, base, earlier)
        )
        faults |= judged.faults
        faults |= (untaught := illegal_tags(table, faults, config))
        checks += row_problem_checks(table, untaught)
        checks += judged.checks
        suspects = suspect_check(table.filter(good_rows(table, faults)), config)
        if suspects is not None:
            checks.append(suspects.check)
            write_suspects(suspects, folder / "suspects.parquet")
        checks += limit_checks(table, faults, config)
        labels = names_in(table["label"].filter(good_rows(table, faults)).unique().to_pylist(), config)
        checks += golden_check(store, snapshot, config, labels)
        _write_quarantine(table, faults, folder)
        summary = {
            "pipeline": config.name,
            "revision": snapshot.revision,
            "rows": table.num_rows,
            "quarantined": len(faults),
            "expectations": judged.summaries,
        }
        (folder / "validation.json").write_text(json.dumps(summary, indent=1, default=str), encoding="utf-8")
        docs = publish_docs(folder, config.name, snapshot.revision)
        publish_quarantine(folder, config.name, snapshot.revision)
        report = store.put(folder, "validation")
    verdict = Verdict(subject="snapshot", checks=tuple(checks), report=report, docs=str(docs))
    log.info("validate: %s of %s rows set aside, %s; %s", len(faults), table.num_rows, verdict.outcome, docs)
    return verdict


def load_rows(store: Store, snapshot: Snapshot) -> pa.Table:
    """All splits' rows but the golden ones, with `split` and `position` (the row's number in its split)."""
    import pyarrow as pa

    parts = []
    for split, ref in own_splits(snapshot).items():
        table = read_table(store.fetch(ref))
        names = pa.DictionaryArray.from_arrays(pa.array(np.zeros(table.num_rows, dtype=np.int32)), pa.array([split]))
        table = table.append_column("split", names.cast(pa.string()))
        parts.append(table.append_column("position", pa.array(np.arange(table.num_rows))))
    return pa.concat_tables(parts)


def suite_frame(store: Store, table: pa.Table, faults: dict[int, Fault], earlier: Snapshot | None) -> pd.DataFrame:
    """The rows without a fault as the suite sees them: text stays where Arrow has it; the index is the row's number."""
    import pandas as pd
    import pyarrow as pa
    import pyarrow.compute as pc

    names = [name for name in ("row_id", "text", "label", "group", "time", "split") if name in table.column_names]
    passed = table.select(names)
    if earlier is not None:
        parts = [read_table(store.fetch(ref), ["digest"])["digest"] for ref in own_splits(earlier).values()]
        old = pa.chunked_array([chunk for part in parts for chunk in part.chunks], pa.binary(16))
        passed = passed.append_column("new", pc.invert(pc.is_in(table["digest"], old.combine_chunks())))
    places = np.arange(table.num_rows)
    if faults:
        keep = good_rows(table, faults)
        passed, places = passed.filter(keep), places[keep.to_numpy(zero_copy_only=False)]
    frame: pd.DataFrame = passed.to_pandas(
        types_mapper=lambda kind: pd.ArrowDtype(kind) if pa.types.is_string(kind) else None
    )
    frame.index = pd.Index(places)
    return frame


def known_facts(store: Store, config: PipelineConfig, base: Base | None, earlier: Snapshot | None) -> dict[str, Any]:
    """What the pipeline fills into expectations that ask for it."""
    import pyarrow.compute as pc

    known: dict[str, Any] = {"max_length": config.model.max_length, "task": config.task_key}
    if base is not None:
        from mlops.training.base import resolve

        known["tokenizer"] = str(resolve(base.uri))
    if earlier is not None:
        counts: dict[str, int] = {}
        for ref in own_splits(earlier).values():
            rows = read_table(store.fetch(ref), ["label", "problem"])
            found = pc.value_counts(rows["label"].filter(pc.is_null(rows["problem"])))
            for label, count in zip(found.field("values").to_pylist(), found.field("counts").to_pylist(), strict=True):
                if label is not None:
                    counts[label] = counts.get(label, 0) + count
        known["parent"] = counts
    return known


def _write_quarantine(table: pa.Table, faults: dict[int, Fault], folder: Path) -> None:
    """quarantine.parquet for `prepare`; the same rows as quarantine/rows.jsonl for people, where there are any."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    order = sorted(faults)
    rows = table.take(pa.array(order, pa.int64()))
    columns = {
        "split": rows["split"],
        "position": rows["position"],
        "row_id": rows["row_id"],
        "reason": pa.array([faults[index].reason for index in order], pa.string()),
        "detail": pa.array([faults[index].detail for index in order], pa.string()),
        "text": pc.utf8_slice_codeunits(rows["text"], 0, PREVIEW),
        "label": rows["label"],
    }
    aside = pa.table(columns)
    pq.write_table(aside, folder / "quarantine.parquet")
    if aside.num_rows:
        (folder / "quarantine").mkdir()
        with (folder / "quarantine" / "rows.jsonl").open("w", encoding="utf-8") as file:
            for batch in aside.to_batches(max_chunksize=10_000):
                file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in batch.to_pylist())
