"""validate: the data gate. Sets unusable rows aside, with the reason, and judges the rest by the pipeline's suite."""

from __future__ import annotations

import json
import logging
import shutil
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops import settings
from mlops.config import PipelineConfig
from mlops.data.checks import Fault, check_rows, limit_checks, repeated_id_check, row_problem_checks
from mlops.data.expectations import declared_labels, run_suite
from mlops.data.snapshots import read_table
from mlops.store import Store, open_store
from mlops.types import Check, Snapshot, Verdict

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger("evergreen")

PREVIEW = 200  # characters of a text in quarantine.parquet


def validate(config: PipelineConfig, snapshot: Snapshot) -> Verdict:
    """Judges a raw snapshot; a failing verdict is returned, not raised, so that its report is kept.

    Row checks come first, then the suite on the rows that passed them. The report holds quarantine.parquet,
    validation.json and data_docs/. Raises UserError for an entry of the suite that is no expectation.
    """
    store = open_store()
    frame = load_frame(store, snapshot)
    faults = check_rows(frame, config, declared_labels(config))
    checks: list[Check] = row_problem_checks(frame, faults)
    if config.data.columns.id:
        checks.append(repeated_id_check(frame))
    passed = frame[~frame.index.isin(list(faults))].drop(columns=["problem", "position"])
    with store.workspace() as folder:
        judged = run_suite(passed, config, snapshot.revision[:12], folder / "data_docs")
        faults |= judged.faults
        checks += [*judged.checks, *limit_checks(frame, faults, config)]
        _write_quarantine(frame, faults, folder / "quarantine.parquet")
        summary = {
            "pipeline": config.name,
            "revision": snapshot.revision,
            "rows": len(frame),
            "quarantined": len(faults),
            "expectations": judged.summaries,
        }
        (folder / "validation.json").write_text(json.dumps(summary, indent=1, default=str), encoding="utf-8")
        docs = settings.current().data_docs / config.name / snapshot.revision[:12]
        _replace_folder(folder / "data_docs", docs)
        verdict = Verdict(subject="snapshot", checks=tuple(checks), report=store.put(folder, "validation"))
    log.info("validate: %s of %s rows set aside, %s; %s", len(faults), len(frame), verdict.outcome, docs / "index.html")
    return verdict


def load_frame(store: Store, snapshot: Snapshot) -> pd.DataFrame:
    """All splits' rows as object columns, with `split` and `position` (the row's number in its split)."""
    import pandas as pd

    columns: dict[str, list[Any]] = {}
    for split, ref in snapshot.splits.items():
        table = read_table(store.fetch(ref))
        values = {name: table[name].to_pylist() for name in table.column_names}
        values |= {"split": [split] * table.num_rows, "position": list(range(table.num_rows))}
        for name, found in values.items():
            columns.setdefault(name, []).extend(found)
    return pd.DataFrame(columns, dtype=object)


def _write_quarantine(frame: pd.DataFrame, faults: dict[int, Fault], path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    order = sorted(faults)
    rows = frame.loc[order]
    columns = {
        "split": pa.array(rows["split"].tolist(), pa.string()),
        "position": pa.array(rows["position"].tolist(), pa.int64()),
        "row_id": pa.array(rows["row_id"].tolist(), pa.string()),
        "reason": pa.array([faults[index].reason for index in order], pa.string()),
        "detail": pa.array([faults[index].detail for index in order], pa.string()),
        "text": pa.array([None if text is None else text[:PREVIEW] for text in rows["text"]], pa.string()),
        "label": pa.array(rows["label"].tolist(), pa.string()),
    }
    pq.write_table(pa.table(columns), path)


def _replace_folder(built: Path, target: Path) -> None:
    """Copies a folder to its place, whole or not at all; another run that builds the same place may win."""
    target.parent.mkdir(parents=True, exist_ok=True)
    mark = uuid.uuid4().hex[:8]
    fresh, stale = target.with_name(f".{target.name}-{mark}"), target.with_name(f".{target.name}-{mark}-old")
    shutil.copytree(built, fresh)
    try:
        if target.exists():
            target.rename(stale)
        fresh.rename(target)
    except OSError:
        log.warning("validate: %s is being written by another run; its pages are kept", target)
    for leftover in (fresh, stale):
        shutil.rmtree(leftover, ignore_errors=True)
