"""Windows of rows and of days treat a row without a usable time alike: it stays in, with that as its problem."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from sources import pipeline, table, write_jsonl

from mlops.steps.source import source
from mlops.types import Snapshot

GOOD = [{"text": f"text {n}", "label": "sun", "at": f"2024-01-{n + 1:02}"} for n in range(5)]
ODD = [
    {"text": "slashes", "label": "sun", "at": "31/01/2024"},
    {"text": "ahead", "label": "sun", "at": "2199-01-01"},
    {"text": "clock", "label": "sun", "at": "now"},
    {"text": "none", "label": "sun"},
]


def pinned(path: Path, rows: list[dict[str, Any]], **data: Any) -> tuple[Snapshot, dict[str, str | None]]:
    found = source(pipeline(write_jsonl(path / "rows.jsonl", rows), data=data))
    return found, {row["text"]: row["problem"] for row in table(found.splits["all"])}


@pytest.mark.parametrize(
    "data",
    [
        {"window": {"rows": 3}, "columns": {"time": "at"}},
        {"window": {"rows": 3, "column": "at"}},
        {"window": {"rows": 3, "column": "at"}, "columns": {"time": "at"}},
        {"window": {"last": "3d", "column": "at"}},
    ],
)
def test_rows_without_a_usable_time_are_set_aside_by_every_window(tmp_path: Path, data: dict[str, Any]) -> None:
    for rows in ([*GOOD, *ODD], [*ODD, *GOOD]):
        found, problems = pinned(tmp_path, rows, **data)
        assert problems == {
            "text 2": None, "text 3": None, "text 4": None,
            "slashes": "unreadable_time", "clock": "unreadable_time", "none": "unreadable_time", "ahead": "future_time",
        }  # fmt: skip
        assert found.watermark == "2024-01-05T00:00:00Z"
        assert found.window is not None
        assert (found.window["column"], found.window["of"]) == ("at", 9)


def test_times_that_none_can_read_are_seen_and_not_taken_for_the_order_of_reading(tmp_path: Path) -> None:
    rows = [row | {"at": f"{n + 20}/01/2024"} for n, row in enumerate(GOOD)]
    found, problems = pinned(tmp_path, rows, window={"rows": 2}, columns={"time": "at"})
    assert problems == dict.fromkeys((row["text"] for row in rows), "unreadable_time")
    assert found.watermark is None
    _, problems = pinned(tmp_path, rows, window={"rows": 2, "format": "%d/%m/%Y"}, columns={"time": "at"})
    assert problems == {"text 3": None, "text 4": None}


def test_a_time_column_alone_sets_nothing_aside(tmp_path: Path) -> None:
    found, problems = pinned(tmp_path, [*GOOD, *ODD], columns={"time": "at"})
    assert set(problems.values()) == {None}
    assert (found.window, found.watermark) == (None, "2024-01-05T00:00:00Z")


def test_two_columns_of_time_are_one_too_many(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match=r"window.column is 'at', data.columns.time 'day'; rows have one time"):
        pipeline(tmp_path, data={"window": {"rows": 2, "column": "at"}, "columns": {"time": "day"}})
