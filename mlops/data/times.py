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
_EPOCH = r"^1\d{9}(\d{3})?(\.\d+)?$"  # seconds or milliseconds since 1970


def span(text: str) -> timedelta:
    """180d, 26w or 36h as a timedelta."""
    return timedelta(**{_UNITS[text[-1]]: int(text[:-1])})


def parse_times(texts: pa.Array, format: str | None = None) -> Times:
    """Times [n] in UTC, in microseconds; NaT where a text is no time or could be meant in several ways.

    ISO 8601 (without an offset: UTC) and seconds or milliseconds since 1970; or `format` in the signs of strptime.
    """
    import pandas as pd
    import pyarrow.compute as pc

    series = pd.Series(texts.to_pandas(), dtype="str")
    if format is not None:
        return _utc(pd.to_datetime(series, format=format, errors="coerce", utc=True))
    numeric = pc.fill_null(pc.match_substring_regex(texts, _EPOCH), False).to_numpy(zero_copy_only=False)
    # A bare number is no ISO date, though pandas reads 42059 as a year.
    digits = pc.fill_null(pc.match_substring_regex(texts, r"^[\d.+-]{0,7}$"), False).to_numpy(zero_copy_only=False)
    found = _utc(pd.to_datetime(series.where(~(numeric | digits)), format="ISO8601", errors="coerce", utc=True))
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
    return "no time; allowed are ISO 8601 and seconds since 1970, or the form that data.window.format names"


def written(time: np.datetime64) -> str:
    """ISO 8601 in UTC, to the second."""
    return str(np.datetime_as_string(time, unit="s")) + "Z"


def first_unreadable(texts: Sequence[str | None], times: Times) -> str | None:
    """The first text that is there and is no time."""
    return next((text for text, time in zip(texts, times, strict=True) if text is not None and np.isnat(time)), None)
