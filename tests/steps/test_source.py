from __future__ import annotations

from pathlib import Path

import pytest
from sources import BBC, pipeline, table, write_jsonl

from mlops.data.book import Entry, publish
from mlops.errors import SourceError
from mlops.steps.source import source
from mlops.store import open_store


def test_the_corpus_is_pinned_and_pinning_it_again_agrees() -> None:
    first = source(pipeline(BBC))
    assert first == source(pipeline(BBC))
    assert first.rows == {"all": 2225}
    assert first.labels == ("business", "entertainment", "politics", "sports", "tech")
    assert first.splits["all"].kind == "snapshot"
    rows = table(first.splits["all"])
    assert list(rows[0]) == ["row_id", "text", "label", "problem"]
    assert [row["row_id"] for row in rows if row["problem"]] == ["sports/199.txt"]
    smaller = source(pipeline(BBC, data={"take": 0.6}))
    assert smaller.rows == {"all": 1335}
    assert smaller.revision != first.revision
    assert {row["row_id"] for row in table(smaller.splits["all"])} < {row["row_id"] for row in rows}


def test_a_change_of_the_source_changes_the_revision_and_not_what_was_pinned(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "rows.jsonl", [{"text": "a", "label": "sun"}])
    before = source(pipeline(path))
    write_jsonl(path, [{"text": "a", "label": "sun"}, {"text": "b", "label": "rain"}])
    after = source(pipeline(path))
    assert (before.revision, before.labels) != (after.revision, after.labels)
    assert [row["text"] for row in table(before.splits["all"])] == ["a"]


def test_where_the_source_lies_does_not_matter(tmp_path: Path) -> None:
    rows = [{"text": "a", "label": "sun"}]
    one, other = (write_jsonl(tmp_path / name / "rows.jsonl", rows) for name in ("here", "there"))
    assert source(pipeline(one)).revision == source(pipeline(other)).revision


def test_splits_by_uri_and_take_shortens_train_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name, count in (("train", 10), ("test", 4)):
        write_jsonl(tmp_path / f"{name}.jsonl", [{"text": f"{name} {n}", "label": "sun"} for n in range(count)])
    splits = {name: str(tmp_path / f"{name}.jsonl") for name in ("train", "test")}
    found = source(pipeline("unused", data={"splits": splits, "take": 0.5}))
    assert found.rows == {"train": 5, "test": 4}
    assert "data.source 'unused' is not read" in caplog.text
    assert found.split_book is None


def test_the_book_is_pinned_with_the_rows(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "rows.jsonl", [{"text": "a", "label": "sun"}])
    ref = publish(open_store(), "tiny", None, {"a": Entry("test", "a")})
    assert source(pipeline(path)).split_book == ref
    assert source(pipeline(path, name="another")).split_book is None


def test_an_unreachable_source_leaves_nothing_behind(tmp_path: Path, home: Path) -> None:
    path = write_jsonl(tmp_path / "rows.jsonl", [{"body": "a", "label": "sun"}])
    with pytest.raises(SourceError, match="no row has the column 'text'; found: body, label"):
        source(pipeline(path))
    assert not list((home / "store").rglob("*.parquet"))
    assert not list((home / "cache" / "work").iterdir())
