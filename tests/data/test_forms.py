"""Every kind of work as a text and a label."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sources import pipeline

from mlops.config_data import Columns
from mlops.data.forms import BLANK, Cells, Form, Grades, Multi, Pair, Tokens
from mlops.data.readers import read_tables
from mlops.data.text import normalise


def read(form: Form, **cells: Any) -> Cells:
    return form.read(cells, Columns(), 1000)


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        (["b", "a", "b"], '["a", "b"]'),
        (np.array(["b", "a"]), '["a", "b"]'),
        ('["ü", 3]', '["3", "ü"]'),
        ("b|a | c", '["a", "b", "c"]'),
        ("one", '["one"]'),
        ([], "[]"),
        ("[]", "[]"),
        (None, None),
        ("", None),
        (7, '["7"]'),
    ],
)
def test_several_labels(cell: Any, expected: str | None) -> None:
    assert read(Multi(), text="x", label=cell) == Cells("x", expected)


@pytest.mark.parametrize("cell", ['["a"', [{"a": 1}]])
def test_labels_that_are_none(cell: Any) -> None:
    assert read(Multi(), text="x", label=cell).problem == "not_text"


def test_pairs_are_one_text_and_a_half_is_none() -> None:
    assert read(Pair(), text_a="Who?", text_b="me ␞ you", label=1) == Cells("Who? ␞ me   you", "1")
    assert read(Pair(), text_a="Who?", text_b=" ", label=1).text is None
    assert read(Pair(), text_a="Who?", text_b=None, label=1).text is None
    assert read(Pair(), text_a="Who?", text_b=b"\xff", label=1).problem == "invalid_utf8"


def test_tokens_and_tags_stay_as_many() -> None:
    found = read(Tokens(), tokens=["New\u00a0York", "\u200b", "e\u0301", "."], tags=["B-LOC", "O", "O", "O"])
    assert found == Cells(f"New{BLANK}York {BLANK} é .", "B-LOC O O O")
    assert normalise(found.text or "") == found.text
    assert read(Tokens(), tokens="a b", tags="O O") == Cells("a b", "O O")
    assert read(Tokens(), tokens='["a", "b"]', tags='["O", "O"]') == Cells("a b", "O O")


@pytest.mark.parametrize(
    ("tokens", "tags", "problem"),
    [
        (["a", "b"], ["O"], "tags_do_not_fit"),
        ([1.5], ["O"], "not_tokens"),
        ({"a": 1}, ["O"], "not_tokens"),
        ('["a"', "O", "not_tokens"),
        (["\ud800"], ["O"], "invalid_utf8"),
        (["x" * 2000], ["O"], "too_large"),
    ],
)
def test_tokens_that_are_none(tokens: Any, tags: Any, problem: str) -> None:
    assert read(Tokens(), tokens=tokens, tags=tags).problem == problem


def test_no_tokens_are_no_text() -> None:
    assert read(Tokens(), tokens=[], tags=[]).text is None
    assert read(Tokens(), tokens=None, tags=["O"]) == Cells(None, None)


def test_a_corpus_in_another_scheme_becomes_iob2(tmp_path: Path) -> None:
    path = tmp_path / "train.conll"
    path.write_text("Rex S-PER\nis O\nin O\nNew B-LOC\nYork E-LOC\n\nhere O\n")
    config = pipeline(path, task="token-classification")
    rows = [row for table in read_tables(str(path), config) for row in table.to_pylist()]
    assert [row["label"] for row in rows] == ["B-PER O O B-LOC I-LOC", "O"]
    assert rows[0]["text"] == "Rex is in New York"
    assert all(row["problem"] is None for row in rows)


def test_what_is_ranked_stays_together_unless_the_pipeline_splits_itself(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text_a": "q", "text_b": "a", "label": 0}\n{"text_a": "q", "text_b": "b", "label": 2}\n')
    config = pipeline(path, task="text-ranking")
    rows = [row for table in read_tables(str(path), config) for row in table.to_pylist()]
    assert [(row["query"], row["group"]) for row in rows] == [("q", "q")] * 2
    given = pipeline(path, task="text-ranking", data={"splits": {"train": str(path), "test": str(path)}})
    (table,) = read_tables(str(path), given)
    assert "group" not in table.column_names


@pytest.mark.parametrize(
    ("label", "problem"),
    [(0, None), ("2", None), (0.5, None), ("yes", "not_a_grade"), (-1, "not_a_grade"), ("nan", "not_a_grade")],
)
def test_a_grade_that_is_none_costs_its_row_alone(label: Any, problem: str | None) -> None:
    assert read(Grades(), text_a="q", text_b="a", label=label).problem == problem
