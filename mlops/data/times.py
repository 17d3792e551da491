"""Times as sources write them: read where they can be meant in one way only, told what they look like where not."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import pyarrow as pa

Times = npt.NDArray[np.datetime64]

_UNITS = {"h": "hours", "d": "days", "w": "weeks"}
_EXCEL = r"^[2-6]\d{4}(\.\d+)?$"  # days since 1899-12-30, from 1954 to 2091
# Seconds or milliseconds since 1970, from September 2001 to May 2033: a 2 or a shorter number may start a date.
_EPOCH = r"^1\d{9}(\d{3})?(\.\d+)?$"
# A year of four digits comes first, and no bare number but YYYYMMDD: pandas reads "now" by its clock and 42059 as a year.
_DATED = r"^(\d{4}-\d{2}|\d{4}-\d{2}\D.*|\d{8}([T ].*)?)$"


def span(text: str) -> timedelta:
    """180d, 26w or 36h as a timedelta."""
    return timedelta(**{_UNITS[text[-1]]: int(text[:-1])})


def parse_times(texts: pa.Array, format: str | None = None) -> Times:
    """Times [n] in UTC, in microseconds; NaT where a text is no time or could be meant in several ways.

    ISO 8601 from the month on (without an offset: UTC, which may also be written behind it), and seconds (10 digits) or
    milliseconds (13) since 1970, from September 2001 to May 2033; or `format` in the signs of strptime.
    """
    import pandas as pd
    import pyarrow.compute as pc

    if format is not None:
        given = pd.Series(texts.to_pandas(), dtype="str")
        given = given.where(
            given.str.contains(r"\d", na=False)
        )  # whatever the form, "now" is the clock's time to pandas
        return _utc(pd.to_datetime(given, format=format, errors="coerce", utc=True))
    texts = pc.replace_substring_regex(pc.utf8_trim_whitespace(texts), r" ?(UTC|GMT)$", "Z")
    series = pd.Series(texts.to_pandas(), dtype="str")
    numeric, dated = (
        pc.fill_null(pc.match_substring_regex(texts, form), False).to_numpy(zero_copy_only=False)
        for form in (_EPOCH, _DATED)
    )
    found = _utc(pd.to_datetime(series.where(dated), format="ISO8601", errors="coerce", utc=True))
    if numeric.any():
        seconds = pd.to_numeric(series[numeric]).to_numpy(dtype=np.float64)
        seconds = np.where(seconds >= 1e12, seconds / 1e3, seconds)
        found[numeric] = (seconds * 1e6).astype("int64").astype("datetime64[us]")
    return found


def _utc(values: Any) -> Times:
    return np.array(values.dt.tz_localize(None).to_numpy(), dtype="datetime64[us]")


def looks_like(text: str) -> str:
    """What a time that cannot be read looks like, for the person who has to mend it."""
    import re

    if re.fullmatch(_EXCEL, text):
        day = datetime(1899, 12, 30) + timedelta(days=float(text))
        return f"an Excel serial date ({text} would be {day:%Y-%m-%d %H:%M:%S})"
    if re.match(r"^\d{1,2}[-./]\d{1,2}[-./]\d{2,4}", text):
        return "a date whose day and month cannot be told apart; name its form in data.window.format"
    return (
        "no time; allowed are ISO 8601 (2024-01-31, 2024-01-31T08:30:00+01:00), seconds (10 digits) or milliseconds (13) "
        "since 1970, or the form that data.window.format names"
    )


def written(time: np.datetime64) -> str:
    """ISO 8601 in UTC, to the second."""
    return str(np.datetime_as_string(time, unit="s")) + "Z"


def first_unreadable(texts: Sequence[str | None], times: Times) -> str | None:
    """The first text that is there and is no time."""
    return next((text for text, time in zip(texts, times, strict=True) if text is not None and np.isnat(time)), None)
