"""Rows whose labels are probably wrong: searched for, ranked and reported before anything is trained on them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from mlops.config import PipelineConfig
from mlops.types import Check, Outcome

if TYPE_CHECKING:
    import pyarrow as pa

# What words of a text tell about its label; those of a pair, or of a token, tell too little.
_SEARCHED = ("text-classification", "text-classification:ordinal")
_LEAST = 100  # rows below which a model of the others says nothing about one


class Suspected(NamedTuple):
    """check: the estimate. rows: the suspects, worst first: split, position, row_id, label, suggested, score, text."""

    check: Check
    rows: pa.Table


def suspect_check(table: pa.Table, config: PipelineConfig) -> Suspected | None:
    """Looks for wrong labels among usable rows; none where validate.label_noise is off or the rows are too few.

    Above validate.label_noise rows a stable sample is judged, unless prepare.drop_label_issues wants all of them.
    """
    import pyarrow as pa

    most = config.validate_.label_noise
    if config.task_key not in _SEARCHED:
        return None
    if not most or table.num_rows < _LEAST or len(table["label"].unique()) < 2:
        return None
    from mlops.data.mislabelled import label_issues

    limit = table.num_rows if config.prepare.drop_label_issues else most
    found = label_issues(table["text"].to_pylist(), table["label"].to_pylist(), max_rows=limit)
    rows = table.take(pa.array(found.rows)).select(["split", "position", "row_id", "label"])
    rows = rows.append_column("suggested", pa.array(found.suggested, pa.string()))
    rows = rows.append_column("score", pa.array(found.scores, pa.float64()))
    rows = rows.append_column("text", table["text"].take(pa.array(found.rows)))
    rate, allowed = round(float(found.noise_rate), 4), config.validate_.max_label_noise
    names = ", ".join(
        f"{row} {given!r} rather {better!r}"
        for row, given, better in zip(
            rows["row_id"].to_pylist()[:3],
            rows["label"].to_pylist()[:3],
            rows["suggested"].to_pylist()[:3],
            strict=True,
        )
    )
    detail = f"{len(found.rows)} suspects among {found.judged} of {found.total} rows" + (f": {names}" if names else "")
    outcome: Outcome = "fail" if rate > allowed else "pass"
    return Suspected(Check(name="label_noise", observed=rate, allowed=allowed, outcome=outcome, detail=detail), rows)


def write_suspects(suspected: Suspected, path: Path) -> None:
    import pyarrow.parquet as pq

    pq.write_table(suspected.rows, path)
