from __future__ import annotations

import sys
import time
import unicodedata

import pyarrow as pa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlops.data.text import digests, normalise, normalise_all

ANY = st.text(st.characters(exclude_categories=[]) | st.sampled_from("\u200d\u0301e\r\n\t \ufeff"), max_size=40)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ANY)
def test_normalising_twice_changes_nothing(text: str) -> None:
    once = normalise(text)
    assert normalise(once) == once
    assert once == once.strip()
    assert "  " not in once
    assert not any(unicodedata.category(char) in ("Cc", "Cf", "Cs") for char in once)
    once.encode("utf-8")


@settings(max_examples=50, deadline=None)
@given(st.text("ae\u0301\u0316\u0344\u0f73\u0f71\u1e69\u3002\u200d ", max_size=6), st.integers(1, 50))
def test_normalising_runs_of_marks_twice_changes_nothing(text: str, times: int) -> None:
    once = normalise(f"a{text * times}b")
    assert normalise(once) == once


def test_marks_without_end_take_no_quadratic_time_and_ordinary_ones_stay() -> None:
    started = time.perf_counter()
    for marks in ("\u0300\u0316", "\u0344\u0316", "\u0f73\u0f71"):
        assert len(normalise(f"a{marks * 100_000}")) < 70
        assert normalise(f"a{marks * 10}") == unicodedata.normalize("NFC", f"a{marks * 10}")
    assert time.perf_counter() - started < 10
    for text in ("\u3002" * 200, "\U0001f44d\U0001f3fd" * 60, "\u0e01\u0e31\u0e49" * 40, "\u05d1\u05b0\u05bc" * 40):
        assert normalise(text) == unicodedata.normalize("NFC", text)


def test_every_mark_that_nfc_sorts_is_counted() -> None:
    for code in (*range(0xD800), *range(0xE000, sys.maxunicode + 1)):
        first = unicodedata.normalize("NFD", chr(code))[0]
        if unicodedata.combining(first):
            assert len(unicodedata.normalize("NFD", normalise(f"a{chr(code) * 70}"))) <= 62, f"U+{code:04X}"


def test_every_control_format_and_surrogate_character_goes_and_no_letter() -> None:
    for code in range(sys.maxunicode + 1):
        char = chr(code)
        category = unicodedata.category(char)
        if category in ("Cc", "Cf", "Cs"):
            assert normalise(f"a{char}b") in ("ab", "a b"), f"U+{code:04X} {category} stays"
        elif category[0] == "L":
            assert normalise(f"a {char}") != "a", f"U+{code:04X} {category} is lost"


def test_line_ends_part_words_and_forms_are_one() -> None:
    assert normalise("one\r\ntwo\rthree\x0bfour\u2028five\xa0six") == "one two three four five six"
    assert normalise("cafe\u0301") == normalise("caf\u00e9") == "café"
    assert normalise("\ufeffBreak\u00ading new\u200bs\x00") == "Breaking news"


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.none() | st.text(max_size=20), max_size=8))
def test_a_column_is_normalised_as_its_texts_are(texts: list[str | None]) -> None:
    for kind in (pa.string(), pa.large_string()):
        found = normalise_all(pa.array(texts, kind))
        assert found.type == kind
        assert found.to_pylist() == [None if text is None else normalise(text) for text in texts]


def test_keys_ignore_case_alone() -> None:
    column = pa.array(["Straße", "STRASSE", "a b", "ab", None, ""])
    keys = digests(column, folded=True).to_pylist()
    assert keys[0] == keys[1] != keys[2] != keys[3]
    assert keys[4] is None
    assert len(keys[5]) == 16
    exact = digests(column, folded=False).to_pylist()
    assert exact[0] != exact[1]
    assert exact[2] == keys[2]
