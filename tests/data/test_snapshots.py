from __future__ import annotations

import random
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from mlops.config import Columns
from mlops.data.rows import Row
from mlops.data.snapshots import read_table, write_raw

ROWS = [Row(f"id{n}", f"text {n}", "sun" if n % 3 else "rain", "malformed" if n == 7 else None) for n in range(10_000)]


def kept(folder: Path, rows: list[Row], take: float) -> list[str]:
    count, _ = write_raw(rows, folder / "rows.parquet", Columns(), take)
    ids: list[str] = read_table(folder)["row_id"].to_pylist()
    assert count == len(ids)
    return ids


def test_a_larger_share_holds_all_of_a_smaller_one_in_the_first_order(tmp_path: Path) -> None:
    place = {row.row_id: number for number, row in enumerate(ROWS)}
    before: set[str] = set()
    for take, count in ((0.0001, 1), (0.00011, 2), (0.3, 3000), (0.6, 6000), (1.0, 10_000)):
        ids = kept(tmp_path, ROWS, take)
        assert len(ids) == count
        assert ids == sorted(ids, key=place.__getitem__)
        assert before <= set(ids)
        before = set(ids)
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["rows.parquet"]


def test_the_share_does_not_depend_on_the_order(tmp_path: Path) -> None:
    shuffled = list(ROWS)
    random.Random(1).shuffle(shuffled)
    assert set(kept(tmp_path, ROWS, 0.2)) == set(kept(tmp_path, shuffled, 0.2))


@pytest.mark.parametrize("take", [0.5, 1.0])
def test_equal_rows_give_equal_bytes_and_the_labels_of_good_rows(tmp_path: Path, take: float) -> None:
    rows = [*ROWS[:100], Row("x", "t", "only-bad", "nul_byte"), Row("y", "t", None)]
    paths = [tmp_path / "a.parquet", tmp_path / "b.parquet"]
    answers = [write_raw(iter(rows), path, Columns(group="g", time="t"), take) for path in paths]
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert answers[0][1] == ["rain", "sun"]
    assert pq.read_schema(paths[0]).names == ["row_id", "text", "label", "problem", "group", "time"]
