from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlops.config_data import Columns
from mlops.data.batches import tables
from mlops.data.forms import Plain
from mlops.data.rows import Record
from mlops.data.snapshots import keep_rows, read_table, share, write_raw

IDS = [f"id{n}" for n in range(10_000)]


def one(label: str) -> list[str]:
    """A label cell that is one label."""
    return [label]


def kept(ids: Sequence[str], take: float) -> list[str]:
    return [name for name, keep in zip(ids, share(ids, take), strict=True) if keep]


def test_a_larger_share_holds_all_of_a_smaller_one_in_the_first_order() -> None:
    before: set[str] = set()
    for take, count in ((0.0001, 1), (0.00011, 2), (0.3, 3000), (0.6, 6000), (1.0, 10_000)):
        ids = kept(IDS, take)
        assert len(ids) == count
        assert before <= set(ids)
        before = set(ids)


def test_the_share_does_not_depend_on_the_order() -> None:
    shuffled = list(IDS)
    random.Random(1).shuffle(shuffled)
    assert set(kept(IDS, 0.2)) == set(kept(shuffled, 0.2))


def record(number: int) -> Record:
    cells = {"text": f"text {number}", "label": "sun" if number % 3 else "rain", "g": "one", "t": f"{number}"}
    return Record(f"id{number}", cells)


def test_equal_rows_give_equal_bytes_and_the_labels_of_good_rows(tmp_path: Path) -> None:
    columns = Columns(group="g", time="t")
    bad = [
        Record("x", {"text": "nul \x00", "label": "only-bad"}),
        Record("y", {"text": "t"}),
        Record("z", None, "malformed"),
    ]
    rows = [*map(record, range(100)), *bad]
    paths = [tmp_path / "a.parquet", tmp_path / "b.parquet"]
    answers = [write_raw(tables(iter(rows), columns, 1000, Plain()), path, columns, one) for path in paths]
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert answers[0] == (103, {"rain", "sun"})
    assert pq.read_schema(paths[0]).names == ["row_id", "text", "label", "problem", "digest", "group", "time"]


def test_the_bytes_do_not_depend_on_what_was_cut_before(tmp_path: Path) -> None:
    rows = [*map(record, range(40_000))]
    rows[500:560] = [Record(f"id{n}", {"text": "x" * 1_000_000, "label": "sun"}) for n in range(500, 560)]
    path, full, cut = tmp_path / "a.parquet", tmp_path / "full.parquet", tmp_path / "b.parquet"
    write_raw(tables(rows, Columns(), 1 << 21, Plain()), path, Columns(), one)
    write_raw(tables([record(99_999), *rows], Columns(), 1 << 21, Plain()), full, Columns(), one)
    flags = np.ones(40_001, dtype=bool)
    flags[0] = False
    keep_rows(full, cut, flags, {}, one)
    assert cut.read_bytes() == path.read_bytes()
    groups = [pq.ParquetFile(path).metadata.row_group(n).num_rows for n in range(pq.ParquetFile(path).num_row_groups)]
    assert sum(groups) == 40_000
    assert max(groups) == 1 << 14
    assert groups[0] < 600


@pytest.mark.parametrize("careful", [False, True])
def test_the_quick_way_and_the_careful_one_agree(careful: bool) -> None:
    rows = [
        Record("a", {"text": " Two  words ", "label": 3, "key": "k1"}),
        Record("b", {"text": b"bytes", "label": 4, "key": None}),
        Record("c", {"text": None, "label": 3, "key": "k3"}),
    ]
    odd = [Record("d", None, "malformed", "{")] if careful else []
    found = pa.concat_tables(tables([*rows, *odd], Columns(id="key"), 1000, Plain())).slice(0, 3).to_pylist()
    assert [row["row_id"] for row in found] == ["k1", "b", "k3"]
    assert [row["text"] for row in found] == [" Two  words ", "bytes", None]
    assert [row["label"] for row in found] == ["3", "4", "3"]
    assert [row["problem"] for row in found] == [None] * 3
    assert [row["digest"] is None for row in found] == [False, False, True]


def test_rows_left_out_and_problems_found_later(tmp_path: Path) -> None:
    full, path = tmp_path / "full.parquet", tmp_path / "rows.parquet"
    write_raw(tables(map(record, range(20_000)), Columns(), 1000, Plain()), full, Columns(), one)
    flags = np.zeros(20_000, dtype=bool)
    flags[[5, 9000, 9001, 19_999]] = True
    assert keep_rows(full, path, flags, {9001: "future_time"}, one) == {"rain", "sun"}
    rows = read_table(tmp_path).to_pylist()
    assert [row["row_id"] for row in rows] == ["id5", "id9000", "id9001", "id19999"]
    assert [row["problem"] for row in rows] == [None, None, "future_time", None]
