"""CSV files: which rows there are, and which columns they have; Parquet where it must agree."""

from __future__ import annotations

import gzip
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sources import rows_of

from mlops.config_data import Columns
from mlops.errors import SourceError


def test_lines_within_quotes_are_never_rows_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text('text,label\n"Hello\nbuy now,spam\nbye",ham,\nok,ham\n"a\nb\nc",sun,1\n"x,y\n,z",rain\n')
    rows = rows_of(path)
    assert [(row.row_id, row.problem) for row in rows] == [
        ("rows.csv:2", "malformed"),
        ("rows.csv:5", None),
        ("rows.csv:6", "malformed"),
        ("rows.csv:9", None),
    ]
    assert (rows[0].text or "").startswith("Hello\nbuy now,spam\nbye,ham")
    assert [row.text for row in rows if not row.problem] == ["ok", "x,y\n,z"]


@pytest.mark.parametrize("name", ["text", "label", "user"])
def test_a_column_that_stands_twice_is_named(tmp_path: Path, name: str) -> None:
    columns, header = Columns(group="user"), ["text", "label", "user", "other", "other", name]
    (tmp_path / "rows.csv").write_text(",".join(header) + "\n" + "a,b,c,d,e,f\n")
    cells = [pa.array([letter]) for letter in "abcdef"]
    pq.write_table(pa.Table.from_arrays(cells, names=header), tmp_path / "rows.parquet")
    for kind in ("csv", "parquet"):
        said = f"rows.{kind}: has 2 columns '{name}'; allowed is one: rename or drop the others"
        with pytest.raises(SourceError, match=said):
            rows_of(tmp_path / f"rows.{kind}", columns)
    (tmp_path / "rows.csv").write_text(",".join(header[:5]) + "\n" + "a,b,c,d,e\n")
    pq.write_table(pa.Table.from_arrays(cells[:5], names=header[:5]), tmp_path / "rows.parquet")
    for kind in ("csv", "parquet"):
        assert [(row.text, row.label, row.group) for row in rows_of(tmp_path / f"rows.{kind}", columns)] == [
            ("a", "b", "c")
        ]


def test_more_than_a_thousand_columns_are_columns(tmp_path: Path) -> None:
    header = ["text", *(f"f{n}" for n in range(1100)), "label"]
    (tmp_path / "rows.csv").write_text(",".join(header) + "\nhello," + "1," * 1100 + "sun\nshort\n")
    rows = rows_of(tmp_path / "rows.csv")
    assert [(row.text, row.label, row.problem) for row in rows] == [("hello", "sun", None), ("short", None, None)]


@pytest.mark.parametrize("name", ["rows.tsv", "rows.TSV", "ROWS.Tsv", "rows.TSV.gz"])
def test_tabs_part_the_cells_however_the_ending_is_written(tmp_path: Path, name: str) -> None:
    data = b"text\tlabel\nhello, you\tsun\n"
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    assert [(row.text, row.label) for row in rows_of(tmp_path / name)] == [("hello, you", "sun")]


def test_exact_numbers_are_labels_in_parquet_as_from_a_database(tmp_path: Path) -> None:
    labels = pa.array([Decimal(1), Decimal(2), None, Decimal(10) ** 37], pa.decimal128(38, 0))
    shares = pa.array([Decimal("1.50"), Decimal("2.00"), None, Decimal(0)], pa.decimal128(38, 2))
    pq.write_table(pa.table({"text": list("abcd"), "label": labels, "share": shares}), tmp_path / "rows.parquet")
    assert [row[2:4] for row in rows_of(tmp_path / "rows.parquet")] == [
        ("1", None), ("2", None), (None, None), ("1" + "0" * 37, None),
    ]  # fmt: skip
    found = rows_of(tmp_path / "rows.parquet", Columns(label="share"))
    assert [row.label for row in found] == ["1.5", "2", None, "0"]
    assert {row.problem for row in found} == {None}
