from __future__ import annotations

from pathlib import Path

import pytest
from sources import BASE, BBC, pipeline, table, write_jsonl

from mlops.config import PipelineConfig
from mlops.data.book import empty_book, publish
from mlops.data.parents import record
from mlops.errors import SourceError
from mlops.flow import step_named
from mlops.pipeline import stop
from mlops.steps.source import source
from mlops.store import open_store
from mlops.types import Run


def test_the_corpus_is_pinned_and_pinning_it_again_agrees() -> None:
    first = source(pipeline(BBC))
    assert first == source(pipeline(BBC))
    assert first.rows == {"all": 2225}
    assert first.labels == ("business", "entertainment", "politics", "sports", "tech")
    assert first.splits["all"].kind == "snapshot"
    rows = table(first.splits["all"])
    assert list(rows[0]) == ["row_id", "text", "label", "problem", "digest"]
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
    ref = publish(open_store(), "tiny", None, empty_book())
    assert source(pipeline(path)).split_book == ref
    assert source(pipeline(path, name="another")).split_book is None


def test_an_unreachable_source_leaves_nothing_behind(tmp_path: Path, home: Path) -> None:
    path = write_jsonl(tmp_path / "rows.jsonl", [{"body": "a", "label": "sun"}])
    with pytest.raises(SourceError, match="no row has the column 'text'; found: body, label"):
        source(pipeline(path))
    assert not list((home / "store").rglob("*.parquet"))
    assert not list((home / "cache" / "work").iterdir())


DAYS = [{"text": f"text {n}", "label": "sun", "at": f"2024-03-{n + 1:02}T12:00:00+01:00"} for n in range(20)]


def texts(config: PipelineConfig) -> list[str]:
    return [row["text"] for row in table(source(config).splits["all"])]


def test_a_window_of_days_ends_with_the_newest_row(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "rows.jsonl", DAYS)
    found = source(pipeline(path, data={"window": {"column": "at", "last": "3d"}}))
    rows = table(found.splits["all"])
    assert [row["text"] for row in rows] == ["text 17", "text 18", "text 19"]
    assert found.rows == {"all": 3}
    assert found.watermark == "2024-03-20T11:00:00Z"
    assert found.window == {
        "column": "at", "of": 20, "last": "3d", "from": "2024-03-17T11:00:00Z", "to": "2024-03-20T11:00:00Z",
    }  # fmt: skip


def test_a_window_of_rows_takes_the_newest_by_time_or_the_last_read(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "rows.jsonl", DAYS[::-1])
    assert texts(pipeline(path, data={"window": {"rows": 2, "column": "at"}})) == ["text 19", "text 18"]
    assert texts(pipeline(path, data={"window": {"rows": 2}})) == ["text 1", "text 0"]
    assert len(texts(pipeline(path, data={"window": {"rows": 100}}))) == 20
    assert texts(pipeline(path, data={"window": {"rows": 4}, "take": 0.5})) != []


def test_times_that_cannot_be_read_or_lie_ahead_stay_as_problems(tmp_path: Path) -> None:
    odd = [
        {"text": "serial", "label": "sun", "at": "42059.4832"},
        {"text": "which", "label": "sun", "at": "03-04-2024"},
        {"text": "ahead", "label": "sun", "at": "2199-01-01"},
        {"text": "none", "label": "sun"},
        {"text": "epoch", "label": "sun", "at": 1710892800},
    ]
    path = write_jsonl(tmp_path / "rows.jsonl", [*DAYS, *odd])
    found = source(pipeline(path, data={"window": {"column": "at", "last": "1d"}}))
    rows = {row["text"]: row["problem"] for row in table(found.splits["all"])}
    assert rows == {
        "text 19": None, "epoch": None, "serial": "unreadable_time", "which": "unreadable_time",
        "ahead": "future_time", "none": "unreadable_time",
    }  # fmt: skip
    assert found.watermark == "2024-03-20T11:00:00Z"
    named = {"column": "at", "last": "9999w", "format": "%d-%m-%Y"}
    again = table(source(pipeline(path, data={"window": named})).splits["all"])
    assert {row["text"]: row["problem"] for row in again}["which"] is None


def test_new_rows_are_those_that_the_last_retrain_had_not(tmp_path: Path) -> None:
    store, path = open_store(), write_jsonl(tmp_path / "rows.jsonl", DAYS[:5])
    first = source(pipeline(path))
    assert (first.new_rows, first.parent_sha256) == (None, None)
    record(store, first)
    same = source(pipeline(path))
    assert (same.new_rows, same.parent_sha256) == (0, None)
    write_jsonl(path, [*DAYS[3:9], {"text": " text  4 ", "label": "sun"}])
    second = source(pipeline(path))
    assert (second.new_rows, second.parent_sha256) == (4, first.revision)
    record(store, second)
    # The same rows once more have the same parent: nothing that is remembered of them is lost.
    again = source(pipeline(path))
    assert (again.new_rows, again.parent_sha256) == (0, first.revision)


def test_new_rows_are_examples_that_can_train(tmp_path: Path) -> None:
    store, path = open_store(), tmp_path / "rows.jsonl"
    unlabelled = [{"text": f"broken {n}", "label": None} for n in range(3)]

    def new(rows: list[dict[str, object]]) -> int | None:
        return source(pipeline(write_jsonl(path, rows))).new_rows

    write_jsonl(path, [*DAYS[:10], *unlabelled])
    record(store, source(pipeline(path)))
    assert new([*DAYS[:10], *unlabelled, *[{"text": "one new text", "label": "sun"}] * 50]) == 1
    assert new([*DAYS[:10], *({"text": f"no label {n}"} for n in range(50))]) == 0
    # Labels that were corrected, and rows that were of no use and are now.
    assert new([*({**row, "label": "fog"} for row in DAYS[:4]), *DAYS[4:10], *unlabelled]) == 4
    assert new([*DAYS[:10], *({**row, "label": "sun"} for row in unlabelled)]) == 3


def test_a_window_that_keeps_the_same_rows_is_the_same_snapshot(tmp_path: Path) -> None:
    rows = [{"id": f"{n}", "text": f"text {n}", "label": "ab"[n % 2], "at": "2024-06-01"} for n in range(9000)]
    data = {"window": {"column": "at", "last": "30d"}, "columns": {"id": "id"}}
    path = write_jsonl(tmp_path / "rows.jsonl", rows)
    first = source(pipeline(path, data=data))
    write_jsonl(path, [{"id": "old", "text": "old", "label": "a", "at": "2020-01-01"}, *rows])
    assert source(pipeline(path, data=data)).revision == first.revision


def test_too_few_new_rows_skip_the_run(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "rows.jsonl", DAYS[:5])
    config = pipeline(path, data={"min_new_rows": 4})
    step = step_named("source")
    this = Run(retrain_id="r", pipeline="tiny", champion=None, base=BASE)

    def ending(run: Run = this) -> str | None:
        found = stop(step, config, run, {"raw": source(config)})
        return f"{found.outcome}: {found.reason}" if found else None

    assert ending() is None  # nothing was trained yet: all rows are new
    record(open_store(), source(config))
    write_jsonl(path, DAYS[:8])
    assert ending() == "skipped: 3 new rows since the last retrain; data.min_new_rows is 4; --force retrains anyway"
    assert ending(this.model_copy(update={"force": True})) is None
    write_jsonl(path, DAYS[:9])
    assert ending() is None


def test_rows_come_from_a_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sqlite3

    with sqlite3.connect(tmp_path / "tickets.db") as database:
        database.execute("CREATE TABLE tickets (id INTEGER, body TEXT, queue TEXT)")
        database.executemany("INSERT INTO tickets VALUES (?, ?, ?)", [(n, f"text {n}", "ab"[n % 2]) for n in range(30)])
    (tmp_path / "queries").mkdir()
    (tmp_path / "queries" / "tickets.sql").write_text("SELECT id, body, queue FROM tickets ORDER BY id")
    monkeypatch.setenv("EVERGREEN_SQL_HELP_DESK", f"sqlite:///{tmp_path / 'tickets.db'}")
    columns = {"text": "body", "label": "queue", "id": "id"}
    config = pipeline("sql://help-desk/queries/tickets.sql", data={"columns": columns}, root=str(tmp_path))
    found = source(config)
    assert (found.rows, found.labels) == ({"all": 30}, ("a", "b"))
    assert [row["row_id"] for row in table(found.splits["all"])][:3] == ["0", "1", "2"]
