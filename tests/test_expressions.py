"""Conditions on rows: what they mean, and what is refused."""

from __future__ import annotations

import pytest

from mlops.expressions import Expression

COLUMNS = {
    "n_tokens": [3, 70, 100],
    "airline": ["Delta", "United", None],
    "n": ["5", "x", None],
    "n_chars": [10, 9, None],
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("n_tokens > 64", [False, True, True]),
        ("3 <= n_tokens < 100", [True, True, False]),
        ("airline == 'Delta' or n_tokens == 100", [True, False, True]),
        ("airline in ['United', 'Delta'] and not n_tokens > 64", [True, False, False]),
        ("airline not in ('United',)", [True, False, True]),
        ("n >= -5", [True, False, False]),  # what is no number is false
        ("n != 5", [False, False, False]),  # also where it only has to differ
        ("n not in (6, 7)", [True, False, False]),
        ("n_tokens < n_chars", [True, False, False]),  # two columns of numbers are compared as numbers
        ("airline != 'Delta'", [False, True, True]),
    ],
)
def test_what_they_mean(text: str, expected: list[bool]) -> None:
    assert Expression(text)(COLUMNS).tolist() == expected


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os')",
        "airline",
        "1 < 2",
        "a.b > 1",
        "f(x) > 1",
        "x > y[0]",
        "(lambda: 1) > x",
        "x >",
        "",
        "x if y else z",
        "x == True",
    ],
)
def test_what_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="allowed"):
        Expression(text)


def test_a_column_that_is_not_there_is_named() -> None:
    assert Expression("airlne == 'Delta' and n_tokens > 1").columns == ("airlne",)
    with pytest.raises(KeyError, match=r"did you mean .*airline"):
        Expression("airlne == 'Delta'")(COLUMNS)
