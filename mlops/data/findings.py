"""What columns look like that spreadsheets had in their hands: reported, never repaired in silence."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlops.config import PipelineConfig
from mlops.data.times import looks_like
from mlops.types import Check

if TYPE_CHECKING:
    import pyarrow as pa

_SCIENTIFIC = r"^\d(\.\d+)?[eE]\+\d+$"
_EXCEL = r"^[2-6]\d{4}(\.\d+)?$"
_AMBIGUOUS = r"^\d{1,2}[-./]\d{1,2}[-./]\d{2,4}"
_FORMULA = r"^[=+]\S|^@[A-Z]+\("


def column_checks(table: pa.Table, config: PipelineConfig) -> list[Check]:
    """Warnings for ids in scientific notation, times that are serial numbers or ambiguous, texts that are formulas."""
    checks = []
    if config.data.columns.id:
        checks += _check(table, "row_id", _SCIENTIFIC, "ids:scientific_notation", "ids that lost their last digits")
    if "time" in table.column_names:
        checks += _check(table, "time", _EXCEL, "times:excel_serial", "times left as they are, each")
        checks += _check(table, "time", _AMBIGUOUS, "times:ambiguous", "times left as they are, each")
    checks += _check(
        table, "text", _FORMULA, "texts:formula", "texts that a spreadsheet would compute, left as they are"
    )
    return checks


def _check(table: pa.Table, column: str, pattern: str, name: str, what: str) -> list[Check]:
    import pyarrow.compute as pc

    found = table.filter(pc.fill_null(pc.match_substring_regex(table[column], pattern), False))
    if not found.num_rows:
        return []
    first = found[column][0].as_py()
    shown = ", ".join(text[:60] for text in found[column].slice(0, 200).unique().to_pylist()[:3])
    guess = f" {looks_like(first)}" if column == "time" else ""
    detail = f"{what}{guess}, such as {shown} (row {found['row_id'][0].as_py()})"
    return [Check(name=name, observed=found.num_rows, allowed=0, outcome="warn", detail=detail)]
