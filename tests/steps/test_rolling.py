"""data.test: rolling takes the newest rows as test each time, and lets older test rows train."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sources import BASE, pipeline, sentences, table, write_jsonl

from mlops.data.book import TEST
from mlops.data.splits import newest
from mlops.errors import ConfigError
from mlops.steps.prepare import prepare
from mlops.steps.source import source
from mlops.steps.validate import validate
from mlops.store import open_store
from mlops.types import Snapshot

ROWS: list[dict[str, Any]] = [
    {"text": text, "label": ("sun", "rain")[n % 2], "when": f"2024-{1 + n // 28:02}-{1 + n % 28:02}"}
    for n, text in enumerate(sentences(140))
]


def run(path: Path, rows: list[dict[str, Any]], **more: str) -> Snapshot:
    columns = {"text": "text", "label": "label", "time": "when"} | more
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
    ids = [row | {"id": f"{n:03}", "when": f"2024-01-{1 + n % 9:02}"} for n, row in enumerate(ROWS)]
    other = random.Random(1).sample(ids, len(ids))
    one, two = (
        {split: {row["text"] for row in table(found.splits[split])} for split in ("train", "validation", "test")}
        for found in (run(tmp_path / "rows.jsonl", rows, id="id") for rows in (ids, other))
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


def test_a_unit_goes_where_its_newest_row_does_and_no_row_is_lost(tmp_path: Path) -> None:
    # Twenty authors write all the time; five of them have stopped.
    rows = [row | {"who": f"u{n % (20 if n < 90 else 15)}"} for n, row in enumerate(ROWS)]
    found = run(tmp_path / "rows.jsonl", rows, group="who")
    assert sum(found.rows.values()) == len(ROWS)
    who = {split: {row["unit"] for row in table(found.splits[split])} for split in found.splits}
    assert not who["test"] & (who["train"] | who["validation"])
    latest = {unit: max(row["when"] for row in rows if row["who"] == unit) for unit in {row["who"] for row in rows}}
    assert min(latest[unit] for unit in who["test"]) >= max(latest[unit] for unit in who["train"] | who["validation"])
    assert found.rows["test"] < len(ROWS) / 4


def test_times_that_lie_ahead_are_never_the_newest(tmp_path: Path) -> None:
    rows = [row | {"when": "2199-01-01"} if n < 9 else row for n, row in enumerate(ROWS)]
    found = run(tmp_path / "rows.jsonl", rows)
    assert max(whens(found, "test")) < "2199"
    assert found.rows["test"] == round(0.1 * len(ROWS))


def test_older_near_duplicates_of_test_rows_do_not_train(tmp_path: Path) -> None:
    alike = ROWS[-1] | {"text": "other " + ROWS[-1]["text"].partition(" ")[2], "when": "2023-01-01"}
    found = run(tmp_path / "rows.jsonl", [alike, *ROWS])
    assert alike["text"] not in {row["text"] for split in found.splits for row in table(found.splits[split])}


def test_the_split_book_is_neither_read_nor_grown(tmp_path: Path) -> None:
    config = pipeline(write_jsonl(tmp_path / "rows.jsonl", ROWS), data={"columns": {"time": "when"}})
    raw = source(config)
    frozen = prepare(config, raw, validate(config, raw), BASE)
    before = open_store().read_document("splits/tiny")
    found = run(tmp_path / "rows.jsonl", ROWS)
    assert open_store().read_document("splits/tiny") == before
    assert found.split_book == frozen.split_book
    assert min(whens(found, "test")) >= max(whens(found, "train"))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 8) | st.none(), st.sampled_from("abc") | st.none()), min_size=1, max_size=40))
def test_the_newest_whatever_the_times_and_units(rows: list[tuple[int | None, str | None]]) -> None:
    times = np.array([np.datetime64("NaT") if day is None else np.datetime64(day, "D") for day, _ in rows], "M8[us]")
    ids, units = [f"{n}" for n in range(len(rows))], [unit for _, unit in rows]

    def chosen(order: list[int]) -> set[int]:
        codes = newest(times[order], *(pa.array([x[n] for n in order], pa.string()) for x in (ids, units)), 0.2)
        return {n for n, code in zip(order, codes, strict=True) if code == TEST}

    tested = chosen(list(range(len(rows))))
    assert tested == chosen(random.Random(0).sample(range(len(rows)), len(rows)))
    timed = {n for n, (day, _) in enumerate(rows) if day is not None}
    assert tested <= timed
    assert not timed or len(tested) >= max(1, round(0.2 * len(rows))) or tested == timed
    mine = {units[n] for n in tested} - {None}
    assert not mine & {units[n] for n in timed - tested}
    alone = [times[n] for n in tested if units[n] is None]
    assert not alone or not timed - tested or min(alone) >= max(times[n] for n in timed - tested)
