"""Ids and groups: one thing has one name, whatever format, number type or path through the code its rows came by."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sources import pipeline, rows_of, sentences, table, write_jsonl
from tiny import tiny_base

from mlops.config_data import Columns
from mlops.data.rows import plain_cell
from mlops.steps.prepare import prepare
from mlops.steps.source import source
from mlops.steps.validate import validate
from mlops.training.base import pin


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (17, "17"),
        (17.0, "17"),
        (Decimal(17), "17"),
        (Decimal("17.00"), "17"),
        (Decimal("1.7E+1"), "17"),
        (-0.0, "0"),
        (1e18, "1000000000000000000"),
        (17.5, "17.5"),
        (Decimal("17.50"), "17.5"),
        (float("nan"), None),
        (Decimal("1E+5000"), "inf"),
        (True, "True"),
        ("17.0", "17.0"),
        (b"17", "17"),
        (b"caf\xe9", "caf\ufffd"),
        ("", None),
    ],
)
def test_a_number_has_one_name(value: Any, name: str | None) -> None:
    assert plain_cell(value) == name


def test_a_column_of_whole_numbers_has_the_same_names_with_a_gap(tmp_path: Path) -> None:
    columns = Columns(id="n", group="u")
    for name, numbers in {
        "whole": pa.array([17, 18]),
        "gap": pa.array([17.0, 18.0, None]),
        "exact": pa.array([Decimal(17), Decimal(18)], pa.decimal128(38, 0)),
    }.items():
        cells = {"text": ["a"] * len(numbers), "label": ["x"] * len(numbers), "n": numbers, "u": numbers}
        pq.write_table(pa.table(cells), tmp_path / f"{name}.parquet")
    write_jsonl(tmp_path / "rows.jsonl", [{"text": "a", "label": "x", "n": n, "u": n} for n in (17, 18.0, None)])
    for path in sorted(tmp_path.iterdir()):
        rows = rows_of(path, columns)
        assert [row.group for row in rows] == ["17", "18", None][: len(rows)], path.name
        assert [row.row_id for row in rows[:2]] == ["17", "18"], path.name


@pytest.mark.parametrize("length", [1000, 1001, 1500, 50_000])
def test_a_long_name_is_the_same_in_a_batch_with_a_bad_row_and_in_one_without(tmp_path: Path, length: int) -> None:
    columns = Columns(id="key", group="user")
    rows = [{"text": "a", "label": "x", "key": "k" * length + end, "user": "g" * length + end} for end in "12"]
    quick = rows_of(write_jsonl(tmp_path / "quick.jsonl", rows), columns)
    careful = rows_of(write_jsonl(tmp_path / "careful.jsonl", [*rows, b"{"]), columns)[:2]
    assert quick == careful
    assert len({row.group for row in quick}) == len({row.row_id for row in quick}) == 2
    assert all(len(row.group or "") <= 1001 for row in quick)
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    assert rows_of(tmp_path / "rows.parquet", columns) == quick


def test_a_user_in_test_never_trains_though_one_month_has_a_gap(tmp_path: Path) -> None:
    texts = sentences(400)
    users = [n % 40 for n in range(400)]
    folder = tmp_path / "data"
    folder.mkdir()
    for name, part in {"january": slice(0, 200), "february": slice(200, 400)}.items():
        numbers: list[float | int | None] = list(users[part])
        if name == "february":
            numbers = [None, *map(float, numbers[1:])]
        cells = {"text": texts[part], "label": ["sun", "rain"] * 100, "user": pa.array(numbers)}
        pq.write_table(pa.table(cells), folder / f"{name}.parquet")
    base = tiny_base(tmp_path / "base")
    config = pipeline(
        folder, data={"columns": {"group": "user"}}, model={"base": str(base), "max_length": 16}, suite=[]
    )
    raw, pinned = source(config), pin(config.model.base)
    snapshot = prepare(config, raw, validate(config, raw, pinned, raw.parent_sha256), pinned)
    rows = {int(row["row_id"].rpartition(":")[2]) - 1 + 200 * ("jan" not in row["row_id"]): name
            for name in ("train", "test") for row in table(snapshot.splits[name])}  # fmt: skip
    found = {name: {users[n] for n, split in rows.items() if split == name and n != 200} for name in ("train", "test")}
    assert found["test"]
    assert not found["test"] & found["train"]


def test_groups_of_a_json_number_and_of_its_text_are_one(tmp_path: Path) -> None:
    lines = [json.dumps({"text": "a", "label": "x", "u": u}).encode() for u in (7, 7.0, "7")]
    assert {row.group for row in rows_of(write_jsonl(tmp_path / "rows.jsonl", lines), Columns(group="u"))} == {"7"}
