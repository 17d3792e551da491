"""Columns that test rows are looked at by come along from the source to the prepared split."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from sources import BASE, pipeline, sentences, write_jsonl

from mlops.errors import SourceError
from mlops.steps.prepare import prepare
from mlops.steps.source import source
from mlops.steps.validate import validate
from mlops.store import open_store

ROWS: list[dict[str, Any]] = [
    {"text": text, "label": ("sun", "rain")[n % 2], "air line": ("Delta", "", None, 7)[n % 4], "n": n}
    for n, text in enumerate(sentences(120))
]
SLICES = [{"column": "air line"}, {"label": "sun"}, {"expression": "n > 10 and n_tokens > 3"}]


def prepared(path: Path, **sections: Any) -> dict[str, list[Any]]:
    config = pipeline(path, **sections)
    raw = source(config)
    found = prepare(config, raw, validate(config, raw), BASE)
    columns: dict[str, list[Any]] = {}
    for split in ("train", "validation", "test"):
        part = pq.read_table(open_store().fetch(found.splits[split]) / "rows.parquet").to_pydict()
        for name, values in part.items():
            columns.setdefault(name, []).extend(values)
    return columns


@pytest.mark.parametrize("odd", [False, True])
def test_they_come_along(tmp_path: Path, odd: bool) -> None:
    # One row that is not plain sends its batch another way: cell by cell.
    rows = [*ROWS, {"text": 12.5, "label": "sun", "air line": ["a"], "n": 1}] if odd else ROWS
    found = prepared(write_jsonl(tmp_path / "rows.jsonl", rows), gate={"slices": SLICES})
    by_text = dict(zip(found["text"], zip(found["slice:air line"], found["slice:n"], strict=True), strict=True))
    for row in ROWS:
        if row["text"] in by_text:
            assert by_text[row["text"]] == ({"Delta": "Delta", 7: "7"}.get(row["air line"]), str(row["n"]))


def test_named_columns_are_read_without_a_rule(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "rows.jsonl", ROWS)
    found = prepared(path, data={"columns": {"text": "text", "label": "label", "slices": ["air line", "text"]}})
    assert set(found["slice:air line"]) == {"Delta", "7", None}
    assert found["slice:text"] == found["text"]


def test_without_slices_nothing_is_added(tmp_path: Path) -> None:
    assert not [name for name in prepared(write_jsonl(tmp_path / "rows.jsonl", ROWS)) if name.startswith("slice")]


def test_a_column_that_no_row_has_is_named(tmp_path: Path) -> None:
    config = pipeline(write_jsonl(tmp_path / "rows.jsonl", ROWS), gate={"slices": [{"column": "airline"}]})
    with pytest.raises(SourceError, match=r"'airline' \(did you mean 'air line'\?\).*gate\.slices"):
        source(config)


def test_formats_without_columns_are_refused() -> None:
    with pytest.raises(ValueError, match=r"gate\.slices: found the column 'airline'; text-folders"):
        pipeline("folder", data={"format": "text-folders"}, gate={"slices": [{"column": "airline"}]})


@pytest.mark.parametrize("name", ["sun/a.txt", "a.conll"])
def test_so_are_they_where_the_files_names_tell_the_format(tmp_path: Path, name: str) -> None:
    path = tmp_path / "data" / name
    path.parent.mkdir(parents=True)
    path.write_text("some O\nwords O\n", encoding="utf-8")
    task = "token-classification" if name.endswith("conll") else "text-classification"
    with pytest.raises(SourceError, match=r"gate\.slices names the column 'airline'; (conll|text-folders)"):
        source(pipeline(tmp_path / "data", task=task, gate={"slices": [{"column": "airline"}]}))


def test_a_slice_may_be_a_column_that_has_another_role(tmp_path: Path) -> None:
    rows = [row | {"who": f"u{n // 2}", "day": f"2024-01-{1 + n % 28:02}"} for n, row in enumerate(ROWS)]
    columns = {"id": "n", "group": "who", "time": "day"}
    slices = [{"column": name} for name in ("n", "who", "day", "label", "text")]
    path = write_jsonl(tmp_path / "rows.jsonl", rows)
    found = prepared(path, data={"columns": columns}, gate={"slices": slices})
    for name, own in (("n", "row_id"), ("who", "unit"), ("day", "time"), ("label", "label"), ("text", "text")):
        assert found[f"slice:{name}"] == found[own]
