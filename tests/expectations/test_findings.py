"""What each expectation finds in a frame, and what it leaves alone."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from sources import BASE, sentences

from mlops.expectations import copies, labels, shift, texts
from mlops.expectations.finding import Finding


def frame(found: list[Any], names: list[Any] | None = None) -> pd.DataFrame:
    """Rows as the suite sees them; their index does not start at zero."""
    table = pa.table(
        {
            "row_id": [f"r{n}" for n in range(len(found))],
            "text": pa.array(found, pa.string()),
            "label": pa.array(names or ["sun"] * len(found), pa.string()),
        }
    )
    held = table.to_pandas(types_mapper=pd.ArrowDtype)
    held.index = pd.RangeIndex(100, 100 + len(found))
    return held


def test_every_label_needs_rows_and_a_strange_one_is_named() -> None:
    held = frame(["x"] * 6, ["sun", "sun", "sun", "rain", "rain", "fog"])
    found = labels.label_rows(held, "label", 2, None)
    assert (found.observed, found.success, found.rows) == (1, False, (105,))
    assert labels.label_rows(held, "label", 1, None).success
    missing = labels.label_rows(held, "label", 1, ["sun", "rain", "snow"])
    assert (missing.observed, missing.success, missing.rows) == (0, False, (105,))
    assert "'snow' has 0 rows" in missing.detail
    assert "'fog' is not among the labels" in missing.detail


def test_a_text_with_two_labels_is_found_whatever_its_case() -> None:
    held = frame(["Good", " good ", "bad", "bad", None, None], ["sun", "rain", "sun", "sun", "sun", "rain"])
    found = labels.one_label_per_text(held, "text", "label", 0.0)
    assert (found.success, found.rows) == (False, (100, 101))
    assert found.table == (("sun", "Good"), ("rain", "good"))
    assert labels.one_label_per_text(held, "text", "label", 0.5).rows == ()


def test_the_shift_of_label_shares_is_an_effect_size() -> None:
    now = frame(["x"] * 400, ["sun"] * 200 + ["rain"] * 200)
    same = labels.label_shift(now, "label", {"sun": 100, "rain": 100}, 0.1, 100)
    assert same.success
    assert same.observed == pytest.approx(0, abs=1e-9)
    # w of .5/.5 against .8/.2: sqrt(.09/.8 + .09/.2) = .75, less a little for the half rows
    moved = labels.label_shift(now, "label", {"sun": 800, "rain": 200}, 0.3, 100)
    assert moved.observed == pytest.approx(0.75, abs=0.01)
    assert not moved.success
    assert "rain 20.0% to 50.0%" in moved.detail
    new = labels.label_shift(now, "label", {"sun": 400, "fog": 1}, 0.3, 100)
    assert not new.success
    for parent in (None, {"sun": 30, "rain": 30}):
        unjudged = labels.label_shift(now, "label", parent, 0.1, 100)
        assert (unjudged.success, unjudged.observed) == (True, None)
        assert "not judged" in unjudged.detail


def test_damaged_encoding_is_told_by_kind() -> None:
    held = frame(
        ["fine – and “quoted” é", "cafÃ© â€“ oops", "was �", "bell \x07", "abc\u202edef", "العربية", "日本語 👍🏽"]
    )
    found = texts.encoding_damage(held, "text", 0.0)
    assert (found.success, found.rows) == (False, (101, 102, 103, 104))
    assert [row[1] for row in found.table] == [
        "mojibake", "replacement character", "control character", "bidi character",
    ]  # fmt: skip
    assert texts.encoding_damage(held, "text", 0.6).rows == ()
    assert texts.encoding_damage(frame([]), "text", 0.0).success


def test_lengths_are_counted_in_the_models_own_tokens() -> None:
    from mlops.training.base import resolve

    held = frame(["one two three", " ".join(["word"] * 40), None])
    found = texts.token_lengths(held, "text", str(resolve(BASE.uri)), 16, 0.0, "text-classification")
    assert (found.success, found.rows) == (False, (101,))
    assert found.table[0][1] == "42 tokens"
    assert found.detail.endswith("median 5, 95% 38, longest 42 tokens")
    assert texts.token_lengths(held, "text", None, 16, 0.0, "text-classification").success


def test_the_share_of_languages() -> None:
    english = ["The weather is going to be fine in the afternoon", "Please tell me when my new card arrives"] * 5
    german = ["Das Wetter wird am Nachmittag wieder besser werden", "Wann kommt meine neue Karte endlich an"] * 2
    held = frame([*english, *german, "ok"])
    found = texts.languages(held, "text", ["en"], 0.9)
    assert (found.success, found.observed) == (False, pytest.approx(10 / 14, abs=1e-3))
    assert "de 4" in found.detail
    assert texts.languages(held, "text", ["en", "de"], 0.9).success
    assert texts.languages(frame(["ok"]), "text", ["en"], 0.9).observed is None


def test_copies_and_near_duplicates() -> None:
    one, two = sentences(2)
    held = frame([one, one.upper() + "  ", two, one + " indeed", None])
    exact = copies.exact_copies(held, "text", 0.0)
    assert (exact.success, exact.rows) == (False, (101,))
    near = copies.near_duplicates(held, "text", 0.0, 0.76)
    assert (near.rows, near.observed) == ((101, 103), pytest.approx(0.4))
    assert near.detail.endswith("the largest group has 3 rows")
    assert copies.near_duplicates(frame([]), "text", 0.0, 0.76).success


def judged(held: pd.DataFrame) -> Finding:
    return shift.new_rows(held, "text", "label", "new", 0.1, 0.1, 0.1, 30)


def test_new_rows_are_held_against_old_ones() -> None:
    held = frame(sentences(400), ["sun", "rain"] * 200)
    held["text"] = [f"{text} {'warm bright' if n % 2 else 'wet grey'}" for n, text in enumerate(held["text"])]
    assert judged(held).observed is None  # there is no earlier snapshot
    held["new"] = [n >= 300 for n in range(400)]
    good = judged(held)
    assert good.success, good.detail
    flipped = held.copy()
    flipped["label"] = ["rain" if n >= 300 else label for n, label in enumerate(held["label"])]
    bad = judged(flipped)
    assert not bad.success
    assert bad.detail.startswith("rain: effect ")
    assert len(bad.header) == len(bad.table[0])
