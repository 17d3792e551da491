from __future__ import annotations

import sys
import unicodedata

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlops.data.text import normalise, text_key

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


def test_keys_ignore_case_alone() -> None:
    assert text_key("Straße") == text_key("STRASSE")
    assert text_key("a b") != text_key("ab")
    assert len(text_key("")) == 32
