"""data.test: rolling takes the newest rows as test each time, and lets older test rows train."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from sources import BASE, pipeline, sentences, table, write_jsonl

from mlops.errors import ConfigError
from mlops.steps.prepare import prepare
from mlops.steps.source import source
from mlops.steps.validate import validate
from mlops.types import Snapshot

ROWS: list[dict[str, Any]] = [
    {"text": text, "label": ("sun", "rain")[n % 2], "when": f"2024-{1 + n // 28:02}-{1 + n % 28:02}"}
    for n, text in enumerate(sentences(140))
]


def run(path: Path, rows: list[dict[str, Any]]) -> Snapshot:
    columns = {"text": "text", "label": "label", "time": "when"}
    config = pipeline(write_jsonl(path, rows), data={"columns": columns, "test": "rolling"})
    raw = source(config)
    return prepare(config, raw, validate(config, raw), BASE)


def whens(snapshot: Snapshot, split: str) -> list[str]:
    return sorted(row["time"] or "" for row in table(snapshot.splits[split]))


def test_the_newest_rows_are_the_test(tmp_path: Path) -> None:
    found = run(tmp_path / "rows.jsonl", ROWS)
    assert found.rows["test"] == round(0.1 * len(ROWS))
    assert min(whens(found, "test")) >= max(whens(found, "train") + whens(found, "validation"))
    assert found.rows["validation"] > 0


def test_the_order_of_the_rows_changes_nothing(tmp_path: Path) -> None:
    ids = [row | {"id": f"{n:03}"} for n, row in enumerate(ROWS)]
    other = random.Random(1).sample(ids, len(ids))
    one, two = (
        {split: {row["text"] for row in table(run(tmp_path / f"{name}.jsonl", rows).splits[split])} for split in ("train", "test")}
        for name, rows in (("one", ids), ("two", other))
    )
    assert one == two


def test_a_window_that_moves_on_lets_older_test_rows_train(tmp_path: Path) -> None:
    first = run(tmp_path / "rows.jsonl", ROWS[:100])
    tested = {row["text"] for row in table(first.splits["test"])}
    second = run(tmp_path / "rows.jsonl", ROWS)
    used = {row["text"] for split in ("train", "validation") for row in table(second.splits[split])}
    assert tested <= used
    assert not used & {row["text"] for row in table(second.splits["test"])}


def test_rows_without_a_time_are_never_in_test(tmp_path: Path) -> None:
    found = run(tmp_path / "rows.jsonl", [row | {"when": None} if n >= 130 else row for n, row in enumerate(ROWS)])
    assert "" not in whens(found, "test")


def test_equal_times_are_told_apart(tmp_path: Path) -> None:
    found = run(tmp_path / "rows.jsonl", [row | {"when": "2024-01-01"} for row in ROWS])
    assert found.rows["test"] == round(0.1 * len(ROWS))


def test_without_times_it_is_refused(tmp_path: Path) -> None:
    with pytest.raises((ConfigError, ValueError), match="rolling"):
        pipeline(write_jsonl(tmp_path / "rows.jsonl", ROWS), data={"test": "rolling"})
