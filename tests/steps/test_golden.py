"""Golden rows are never trained on and always judged, whatever the source holds of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sources import BASE, pipeline, sentences, table, write_jsonl

from mlops.errors import Rejected, SourceError
from mlops.steps.prepare import prepare
from mlops.steps.source import source
from mlops.steps.validate import validate
from mlops.types import Snapshot

ROWS: list[dict[str, Any]] = [{"text": text, "label": ("sun", "rain")[n % 2]} for n, text in enumerate(sentences(150))]
OTHERS = ("train", "validation", "test")


def run(folder: Path, rows: list[dict[str, Any]], golden: list[dict[str, Any]]) -> Snapshot:
    gate = {"golden": str(write_jsonl(folder / "golden.jsonl", golden))}
    config = pipeline(write_jsonl(folder / "rows.jsonl", rows), gate=gate)
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
    assert left.observed == 6


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
