"""Golden rows are never trained on and always judged, whatever the source holds of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sources import BASE, pipeline, sentences, table, write_jsonl

from mlops.data.parents import record, recorded
from mlops.errors import Rejected, SourceError
from mlops.steps.prepare import prepare
from mlops.steps.source import source
from mlops.steps.validate import known_facts, validate
from mlops.store import open_store
from mlops.types import Snapshot

ROWS: list[dict[str, Any]] = [{"text": text, "label": ("sun", "rain")[n % 2]} for n, text in enumerate(sentences(150))]
OTHERS = ("train", "validation", "test")


def run(folder: Path, rows: list[dict[str, Any]], golden: list[dict[str, Any]], **data: Any) -> Snapshot:
    gate = {"golden": str(write_jsonl(folder / "golden.jsonl", golden))} if golden else {}
    config = pipeline(write_jsonl(folder / "rows.jsonl", rows), gate=gate, data=data)
    raw = source(config)
    return prepare(config, raw, validate(config, raw), BASE)


def texts(snapshot: Snapshot, *splits: str) -> set[str]:
    return {row["text"].casefold() for name in splits for row in table(snapshot.splits[name])}


def near(text: str) -> str:
    words = text.split()
    return " ".join(["other", *words[1:]])


def test_they_are_a_split_of_their_own_and_nothing_like_them_trains(tmp_path: Path) -> None:
    golden = [row | {"text": row["text"]} for row in ROWS[:6]]
    more = [row | {"text": near(row["text"])} for row in ROWS[:3]]
    found = run(tmp_path, ROWS + more, golden)
    assert found.rows["golden"] == 6
    assert {row["label"] for row in table(found.splits["golden"])} == {"sun", "rain"}
    own = texts(found, "golden")
    assert own == {row["text"].casefold() for row in golden}
    assert not own & texts(found, *OTHERS)
    assert not {row["text"].casefold() for row in more} & texts(found, "train", "validation")
    assert found.verdict is not None
    (left,) = (check for check in found.verdict.checks if check.name == "leaks:golden")
    assert left.observed == 6 + 3
    assert "6 copies and 3 near-duplicates" in left.detail


def test_what_once_was_golden_never_trains(tmp_path: Path) -> None:
    run(tmp_path, ROWS, ROWS[:4])
    later = run(tmp_path, ROWS, ROWS[:3])
    assert ROWS[3]["text"].casefold() not in texts(later, "train", "validation")


def test_without_a_golden_file_the_rest_is_what_it_was(tmp_path: Path) -> None:
    config = pipeline(write_jsonl(tmp_path / "rows.jsonl", ROWS))
    raw = source(config)
    found = prepare(config, raw, validate(config, raw), BASE)
    assert set(found.splits) == set(OTHERS)


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ({"text": "", "label": "sun"}, "no text"),
        ({"text": "a text without", "label": None}, "no label"),
        ({"text": "nul \x00 byte", "label": "sun"}, "nul_byte"),
        ({"text": "\u200b", "label": "sun"}, r"golden\.jsonl:2: missing_text"),
    ],
)
def test_a_golden_row_that_cannot_be_judged_rejects_the_data(tmp_path: Path, bad: dict[str, Any], said: str) -> None:
    with pytest.raises(Rejected, match=said):
        run(tmp_path, ROWS, [ROWS[0], bad])


def test_a_label_that_the_data_does_not_have_is_named(tmp_path: Path) -> None:
    with pytest.raises(Rejected, match="snow"):
        run(tmp_path, ROWS, [{"text": "it snows", "label": "snow"}])


def test_a_golden_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    config = pipeline(write_jsonl(tmp_path / "rows.jsonl", ROWS), gate={"golden": str(tmp_path / "none.jsonl")})
    with pytest.raises(SourceError, match=r"none\.jsonl"):
        source(config)


def test_a_golden_text_of_a_unit_takes_the_rest_of_it_nowhere(tmp_path: Path) -> None:
    rows = [row | {"who": f"u{n // 10}"} for n, row in enumerate(ROWS)]
    first = run(tmp_path, rows, [], columns={"group": "who"})
    trained = table(first.splits["train"])
    golden = [{"text": trained[0]["text"], "label": trained[0]["label"], "who": trained[0]["unit"]}]
    run(tmp_path, rows, golden, columns={"group": "who"})
    third = run(tmp_path, rows, golden, columns={"group": "who"})
    assert texts(third, "train") == texts(first, "train") - texts(third, "golden")


@pytest.mark.parametrize("data", [{}, {"test": "rolling", "columns": {"time": "when"}}])
def test_what_resembles_them_is_not_judged_twice(tmp_path: Path, data: dict[str, Any]) -> None:
    rows = [row | {"when": f"2024-{1 + n // 28:02}-{1 + n % 28:02}"} for n, row in enumerate(ROWS)]
    before = run(tmp_path, rows, [], **data)
    tested = table(before.splits["test"])[:2]
    golden = [{"text": near(row["text"]), "label": row["label"], "when": "2024-01-01"} for row in tested]
    after = run(tmp_path, rows, golden, **data)
    assert not texts(after, *OTHERS) & {row["text"].casefold() for row in tested}
    assert after.verdict is not None
    leaks = {check.name: check.observed for check in after.verdict.checks if check.name.startswith("leaks:")}
    assert (leaks["leaks:golden"], leaks["leaks:test"]) == (2, 0)
    assert after.deduplicated == before.deduplicated + 2
    assert list(table(after.splits["golden"])[0]) == list(table(after.splits["test"])[0])


def test_they_are_in_no_other_check_and_count_as_no_new_rows(tmp_path: Path) -> None:
    golden = [{"text": "snow falls", "label": "snow"}, {"text": "more snow", "label": "sleet"}]
    gate = {"golden": str(write_jsonl(tmp_path / "golden.jsonl", golden))}
    path, limits = write_jsonl(tmp_path / "rows.jsonl", ROWS), {"min_rows_per_label": 3}
    plain, with_golden = pipeline(path, validate=limits), pipeline(path, validate=limits, gate=gate)
    alone, raw = source(plain), source(with_golden)
    assert (raw.labels, raw.rows) == (("rain", "sun"), {"all": 150, "golden": 2})
    record(open_store(), alone)
    assert source(with_golden).new_rows == 0
    ours = validate(with_golden, raw).checks
    assert [check for check in ours if check.name != "golden"] == list(validate(plain, alone).checks)
    (check,) = (check for check in ours if check.name == "golden")
    assert (check.outcome, check.observed) == ("fail", 2)
    assert "golden.jsonl:1: unknown_label, found 'snow'; the data has rain, sun" in check.detail
    # As the parent of a later snapshot neither.
    record(open_store(), raw)
    facts = known_facts(open_store(), plain, None, recorded(open_store(), "tiny", raw.revision))
    assert facts["parent"] == {"sun": 75, "rain": 75}


def test_ids_tell_them_from_test_rows(tmp_path: Path) -> None:
    rows = [row | {"id": f"{n}"} for n, row in enumerate(ROWS)]
    mine = [{"text": f"by hand {n}", "label": "sun", "id": f"{n}"} for n in range(150)]
    found = run(tmp_path, rows, mine, columns={"id": "id"})
    ids = [{row["row_id"] for row in table(found.splits[name])} for name in ("test", "golden")]
    assert not ids[0] & ids[1]
    assert len(ids[1]) == 150
