"""A row as it was read, and the faults of a cell that can be told while reading."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Collection, Iterable, Sequence
from decimal import Decimal
from itertools import islice
from typing import Any, NamedTuple

from mlops.errors import SourceError

PREVIEW = 1000  # characters kept of a text that has a problem
WHOLE = 1000  # characters of an id, a group or a time that is kept as it is

_NAMES = 1000  # of columns that an error may choose from

_UNWRITABLE = re.compile("[\x00\ud800-\udfff]")

PROBLEMS = {
    "invalid_utf8": "bytes that are not UTF-8",
    "nul_byte": "a NUL character",
    "too_large": "a cell above validate.max_text_bytes",
    "malformed": "a record that does not parse",
    "not_text": "a text or label that is neither text nor a plain value",
    "not_a_grade": "a relevance that is no number from 0 to below 100",
    "not_tokens": "tokens or tags that are no list",
    "tags_do_not_fit": "another number of tags than of tokens",
    "unreadable_time": "a time that cannot be read",
    "future_time": "a time that lies more than a day ahead",
}


class Row(NamedTuple):
    """problem: a key of PROBLEMS, or none; text then holds a preview with replacement characters."""

    row_id: str
    text: str | None
    label: str | None
    problem: str | None = None
    group: str | None = None
    time: str | None = None
    query: str | None = None
    slices: tuple[str | None, ...] = ()


class Record(NamedTuple):
    """What a reader found before its cells are looked at: cells by column name, or the problem and a preview."""

    place: str
    cells: dict[str, Any] | None
    problem: str | None = None
    preview: str | None = None


def note_columns(seen: dict[str, None], names: Collection[str], wanted: Iterable[str]) -> None:
    """Notes the columns that a reader came across: a thousand names, and always those that matter."""
    if len(seen) < _NAMES and not all(map(seen.__contains__, names)):
        seen.update(dict.fromkeys(map(showable, islice(names, _NAMES))))
    seen.update(dict.fromkeys(name for name in wanted if name in names))


def require_once(file: str, names: Sequence[str], wanted: Iterable[str]) -> None:
    """Raises SourceError where a column that matters stands more than once: which of them is meant cannot be told."""
    for name in wanted:
        if (count := names.count(name)) > 1:
            raise SourceError(f"{file}: has {count} columns {name!r}; allowed is one: rename or drop the others")


def showable(text: str, limit: int = PREVIEW) -> str:
    """At most `limit` characters that can be written as UTF-8; what cannot is replaced."""
    return _UNWRITABLE.sub("\ufffd", text[:limit])


def bytes_preview(data: bytes) -> str:
    """The start of some bytes as text, with replacement characters."""
    return data[: 4 * PREVIEW].decode("utf-8", "replace")[:PREVIEW].replace("\x00", "\ufffd")


def text_cell(value: Any, max_bytes: int) -> tuple[str | None, str | None]:
    """A text cell as (text, problem); bytes are decoded here, so that one bad cell is one bad row."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None, None
    if isinstance(value, bytes):
        if len(value) > max_bytes:
            return bytes_preview(value), "too_large"
        try:
            value = value.decode("utf-8")
        except UnicodeDecodeError:
            return bytes_preview(value), "invalid_utf8"
    if not isinstance(value, str):
        return showable(_written(value)), "not_text"
    # A character is one to four bytes: only in between is the exact size needed.
    if len(value) > max_bytes or (len(value) * 4 > max_bytes and _size(value) > max_bytes):
        return showable(value), "too_large"
    if not encodable(value):
        return showable(value), "invalid_utf8"
    if "\x00" in value:
        return showable(value), "nul_byte"
    return value, None


def label_cell(value: Any, max_bytes: int) -> tuple[str | None, str | None]:
    """A label cell as (label, problem): numbers and booleans become their string, 3.0 becomes "3"; empty is none."""
    value = plain_number(value)
    if isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value)):
        value = str(value)
    label, problem = text_cell(value, max_bytes)
    if label is not None and problem is None:
        label = label.strip() or None
    return label, problem


def plain_number(value: Any) -> Any:
    """Whole floats and Decimals as integers, other Decimals as floats; what is neither as it is.

    A whole-numbered column with one gap arrives as floats, and a database's as Decimals: what the column holds must not
    change with the gap, nor with the format.
    """
    if isinstance(value, float):
        return int(value) if value.is_integer() else value
    if isinstance(value, Decimal):
        # Python writes no integer of more than 4,300 digits; a float holds 309.
        whole = value.is_finite() and value.adjusted() < 309 and value == value.to_integral_value()
        return int(value) if whole else float(value)
    return value


def _written(value: Any) -> str:
    """A value as Python writes it; JSON may be nested deeper than that."""
    try:
        return repr(value)
    except RecursionError:
        return f"{type(value).__name__}, nested too deep to be shown"


def _size(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))


def encodable(text: str) -> bool:
    """Whether a text can be written as UTF-8; not so for half of a surrogate pair, which no tokenizer takes."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def plain_cell(value: Any) -> str | None:
    """An id, group or time cell as text; none stays none, dates become ISO 8601, 17.0 becomes "17"."""
    value = plain_number(value)
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, bytes):
        value = value.decode("utf-8", "surrogateescape")
    elif hasattr(value, "isoformat"):
        value = value.isoformat()
    text = value if isinstance(value, str) else _written(value)
    # Cut, two groups that start alike would be one; whole, a thousand of them would fill the memory.
    return (showable(text) if len(text) <= WHOLE else _short(text)) or None


def _short(text: str) -> str:
    """A long name by its start and its digest: equal names stay equal, others stay apart."""
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{showable(text, 100)}… ({len(text)} characters, sha256 {digest})"
