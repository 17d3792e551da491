"""What a look at a data set came to, before it is an expectation's result."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

Flags = npt.NDArray[np.bool_]

EXAMPLES = 10  # rows shown in Data Docs
SHOWN = 120  # characters of a text there


class Finding(NamedTuple):
    """observed: the number that is judged. success: whether it is allowed. detail: one line for a verdict. rows: index
    labels of the rows concerned, to be set aside. header, table: what Data Docs show of it."""

    observed: float | int | str | None
    success: bool
    detail: str = ""
    rows: tuple[int, ...] = ()
    header: tuple[str, ...] = ()
    table: tuple[tuple[str, ...], ...] = ()


def not_judged(why: str) -> Finding:
    """Success, saying why there was nothing to judge."""
    return Finding(None, True, f"not judged: {why}")


def arrow(frame: pd.DataFrame, column: str) -> pa.Array:
    """A text column as an Arrow array; without a copy where pandas holds it as one."""
    import pyarrow as pa

    found = pa.array(frame[column], from_pandas=True)
    if isinstance(found, pa.ChunkedArray):
        found = found.combine_chunks() if found.length() else pa.array([], found.type)
    return found.cast(pa.large_string()) if not pa.types.is_large_string(found.type) else found


def share_finding(frame: pd.DataFrame, bad: Flags, column: str, max_share: float, kinds: Sequence[Any] = ()) -> Finding:
    """Judges the share of rows that are bad [n]; shows the first of them, with what each is (`kinds`, one per bad row)."""
    places = np.flatnonzero(bad)
    share = len(places) / len(frame) if len(frame) else 0.0
    shown = frame.iloc[places[:EXAMPLES]]
    texts = [shorten(text) for text in shown[column].tolist()]
    ids = [str(name) for name in shown["row_id"].tolist()] if "row_id" in frame.columns else list(map(str, shown.index))
    whats = [str(kind) for kind in kinds[:EXAMPLES]]
    header = ("row", *(("what",) if whats else ()), "text")
    table = tuple(zip(ids, *((whats,) if whats else ()), texts, strict=True))
    success = bool(share <= max_share)
    rows = () if success else tuple(frame.index[places].tolist())
    detail = f"{len(places)} of {len(frame)} rows"
    if len(places):
        detail += f", such as {', '.join(ids[:3])}"
    return Finding(round(share, 6), success, detail, rows, header, table)


def shorten(value: Any, limit: int = SHOWN) -> str:
    """A value in one line that can be shown."""
    text = " ".join(str(value).split())
    return text if len(text) <= limit else text[: limit - 1] + "…"
