from __future__ import annotations

import pyarrow as pa
import pytest

from mlops.data.times import looks_like, parse_times


def read(*texts: str | None, format: str | None = None) -> list[str]:
    return [str(time) for time in parse_times(pa.array(texts, pa.string()), format)]


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2024-01-31", "2024-01-31T00:00:00.000000"),
        ("2024-01", "2024-01-01T00:00:00.000000"),
        ("20240131", "2024-01-31T00:00:00.000000"),
        ("20240131T083000", "2024-01-31T08:30:00.000000"),
        ("2024-01-31T08:30:00+01:00", "2024-01-31T07:30:00.000000"),
        ("2024-01-31 08:30:00 UTC", "2024-01-31T08:30:00.000000"),
        ("2024-01-31 08:30:00.5 UTC", "2024-01-31T08:30:00.500000"),
        ("2024-01-31T08:30:00GMT", "2024-01-31T08:30:00.000000"),
        ("2024-01-31 08:30:00+00", "2024-01-31T08:30:00.000000"),
        (" 2024-01-31T08:30Z\n", "2024-01-31T08:30:00.000000"),
        ("1000000000", "2001-09-09T01:46:40.000000"),
        ("1999999999.25", "2033-05-18T03:33:19.250000"),
        ("1700000000123", "2023-11-14T22:13:20.123000"),
    ],
)
def test_what_can_be_meant_in_one_way_is_read(text: str, time: str) -> None:
    assert read(text) == [time]
    assert read(None, text, "no") == ["NaT", time, "NaT"]


@pytest.mark.parametrize(
    "text",
    [
        *(
            "now",
            "today",
            "NOW",
            " Today ",
            "now UTC",
            "nat",
            "NaT",
            "",
            "UTC",
            "tomorrow",
            "2024 now",
            "10:30",
            "Jan 2024",
        ),
        *("2024", "42059", "42059.4832", "-86400", "+1", "999999999", "2000000000", "1700000000123456", "1.7e9"),
        *("12345678", "03-04-2024", "31/01/2024", "24-01-31", "2024-13", "2024-1"),
    ],
)
def test_what_is_no_time_or_many_is_not_guessed(text: str) -> None:
    assert read(text) == ["NaT"]


def test_a_named_form_is_read_as_it_is_named() -> None:
    assert read("31/01/2024", "2024-01-31", "now", format="%d/%m/%Y") == ["2024-01-31T00:00:00.000000", "NaT", "NaT"]


def test_the_person_who_mends_it_is_told_what_is_allowed() -> None:
    assert looks_like("now").startswith("no time; allowed are ISO 8601 (2024-01-31,")
    assert "Excel serial date" in looks_like("42059.4832")
    assert "day and month" in looks_like("03-04-2024")
