"""Memory stays small whichever column is large, and however little of it the file says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sources import pipeline, rows_of, write_jsonl

from mlops.config_data import Columns
from mlops.data.batches import tables
from mlops.data.forms import Plain
from mlops.data.readers import read_tables
from mlops.data.rows import Record
from mlops.errors import SourceError

LONG = "unread words " * 8_000  # 104 kB
HUGE = "h" * 300_000
READ = """
import re, sys
from pathlib import Path
import pyarrow.compute, pyarrow.parquet, pandas
from sources import pipeline
from mlops.data.readers import read_tables

def peak():  # of this process alone: what getrusage says starts with its parent's
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

before = peak()
config = pipeline(sys.argv[1], validate={"max_text_bytes": 1_000_000})
rows = problems = 0
for table in read_tables(sys.argv[1], config):
    rows += table.num_rows
    problems += table.num_rows - table["problem"].null_count
print(rows, problems, (peak() - before) // 1000)
"""


def peak_of(path: Path, columns: Columns | None = None) -> tuple[int, int]:
    """(rows, the most bytes that Python held) of a source read batch by batch."""
    config = pipeline(path, data={"columns": (columns or Columns()).model_dump(exclude_none=True)})
    count = sum(table.num_rows for table in read_tables(str(path), config))  # imports are done
    tracemalloc.start()
    assert sum(table.num_rows for table in read_tables(str(path), config)) == count
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return count, peak


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_columns_that_nobody_reads_are_not_held(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"rows.{kind}"
    if kind == "jsonl":
        write_jsonl(path, [{"html": f"{n}{LONG}", "text": f"row {n}", "label": "sun"} for n in range(400)])
    else:
        path.write_text("html,text,label\n" + "".join(f"{n}{LONG},row {n},sun\n" for n in range(400)))
    assert path.stat().st_size > 40_000_000
    count, peak = peak_of(path)
    assert (count, peak < 4_000_000) == (400, True), f"{peak:,} bytes"
    # They are still known: an error names what there is.
    with pytest.raises(SourceError, match=r"'tekst' \(did you mean 'text'\?\); found: html, text, label"):
        rows_of(path, Columns(text="tekst"))


@pytest.mark.parametrize("large", ["label", "group", "nested"])
def test_each_column_that_is_read_counts(large: str) -> None:
    def records() -> Any:
        for number in range(400):
            cells: dict[str, Any] = {"text": "short", "label": "sun", "group": "ann"}
            cells["label" if large == "nested" else large] = (
                [[f"{number}{LONG}"]] if large == "nested" else f"{number}{LONG}"
            )
            yield Record(str(number), cells)

    sizes = [table.num_rows for table in tables(records(), Columns(group="group"), 1_000_000, Plain())]
    assert sum(sizes) == 400
    assert max(sizes) <= 16_000_000 // len(LONG) + 1


def test_deep_nests_are_measured_without_recursion(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "rows.jsonl", [b'{"label": "sun", "text": ' + b"[" * 1000 + b"]" * 1000 + b"}"])
    assert [row.problem for row in rows_of(path)] == ["not_text"]


def test_a_column_behind_a_thousand_others_is_found(tmp_path: Path) -> None:
    row = {f"f{n}": 1 for n in range(1100)} | {"text": "hello", "label": "sun"}
    write_jsonl(tmp_path / "rows.jsonl", [{f"g{n}": 1 for n in range(1100)} | {"label": "sun"}, row])
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "rows.parquet")
    (tmp_path / "rows.csv").write_text(",".join(row) + "\n" + ",".join(map(str, row.values())) + "\n")
    for kind in ("jsonl", "parquet", "csv"):
        assert [r.text for r in rows_of(tmp_path / f"rows.{kind}")][-1] == "hello", kind


def columns_of(kind: str) -> tuple[pa.Array, dict[str, Any]]:
    if kind == "dictionary":
        shared = pa.DictionaryArray.from_arrays(pa.array([0] * 600, pa.int32()), pa.array([HUGE]))
        return shared.cast(pa.large_string()), {}
    if kind == "dictionary behind gaps":
        return pa.array([None] * 2000 + [HUGE] * 300), {}
    if kind == "delta":
        return pa.array([HUGE] * 500), {
            "use_dictionary": False, "column_encoding": {"text": "DELTA_BYTE_ARRAY", "label": "PLAIN"},
        }  # fmt: skip
    return pa.array([HUGE.encode()] * 500, pa.binary(len(HUGE))), {}


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells a process's peak so")
@pytest.mark.parametrize("kind", ["dictionary", "dictionary behind gaps", "delta", "fixed size"])
def test_a_small_parquet_file_does_not_fill_the_memory(tmp_path: Path, kind: str) -> None:
    text, options = columns_of(kind)
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"text": text, "label": ["x"] * len(text)}), path, compression="zstd", **options)
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parent.parent)}
    command = [sys.executable, "-c", READ, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    rows, problems, megabytes = map(int, done.stdout.split())
    assert (rows, problems) == (len(text), 0)
    assert megabytes < 230, f"{megabytes} MB for {path.stat().st_size} bytes"


def test_a_parquet_bomb_is_named(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    table = pa.table({"text": pa.array([HUGE] * 300), "label": ["x"] * 300, "other": ["y"] * 300})
    pq.write_table(table, path, compression="zstd", use_dictionary=False)
    said = r"rows.parquet: its column 'text' unpacks from [\d,]+ to 90,0\d\d,\d+ bytes in one row group, more than 200 times"
    with pytest.raises(SourceError, match=said):
        rows_of(path)
    # A column that nobody reads may be what it likes.
    assert len(rows_of(path, Columns(text="other"))) == 300


def test_row_groups_of_all_sizes_come_in_order(tmp_path: Path) -> None:
    texts = [f"text {n}" if n % 7 else "long " * 60_000 + str(n) for n in range(300)]
    path = tmp_path / "rows.parquet"
    with pq.ParquetWriter(path, pa.schema([("text", pa.string()), ("label", pa.string())])) as writer:
        start = 0
        for size in (1, 1, 50, 3, 200, 45):
            writer.write_table(pa.table({"text": texts[start : start + size], "label": ["x"] * size}))
            start += size
    rows = rows_of(path)
    assert [row.text for row in rows] == texts
    assert [row.row_id for row in rows] == [f"rows.parquet:{n}" for n in range(1, 301)]
    assert json.dumps(rows[0])
