"""The window of a growing source: which rows are used now, and what time the newest of them has."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mlops.config_data import DataSection
from mlops.data.times import Times, parse_times, span, written

if TYPE_CHECKING:
    import pyarrow as pa

Flags = npt.NDArray[np.bool_]

_AHEAD = np.timedelta64(1, "D")  # clocks and time zones differ by no more


class Chosen(NamedTuple):
    """kept [n]. problems: by row number. window: what a snapshot records of it. watermark: the newest row's time."""

    kept: Flags
    problems: dict[int, str]
    window: dict[str, Any] | None
    watermark: str | None


def choose(path: Path, data: DataSection, now: np.datetime64) -> Chosen:
    """Applies data.window to the rows of a raw Parquet file.

    The window ends with the newest row, not with today, so that the same rows give the same snapshot. Rows whose time
    cannot be read, or lies in the future, stay in, with that as their problem: validation sets them aside and says so.
    """
    import pyarrow.parquet as pq

    window = data.window
    with pq.ParquetFile(path) as file:
        count = file.metadata.num_rows
        timed = "time" in file.schema_arrow.names
        texts = file.read(columns=["time"])["time"].combine_chunks() if timed else None
    if texts is None:
        kept = np.ones(count, dtype=bool)
        if window and window.rows:
            kept[: max(0, count - window.rows)] = False
        return Chosen(kept, {}, {"rows": window.rows, "of": count} if window else None, None)
    times = parse_times(texts, window.format if window else None)
    future = ~np.isnat(times) & (times > now + _AHEAD)
    usable = ~np.isnat(times) & ~future
    newest = times[usable].max() if usable.any() else None
    watermark = written(newest) if newest is not None else None
    if window is None:
        return Chosen(np.ones(count, dtype=bool), {}, None, watermark)
    # What has no time that can be read is neither old nor new: left out in silence, nobody would ever mend it.
    problems = dict.fromkeys(np.flatnonzero(np.isnat(times)).tolist(), "unreadable_time")
    problems |= dict.fromkeys(np.flatnonzero(future).tolist(), "future_time")
    recorded: dict[str, Any] = {"column": window.column or data.columns.time, "of": count}
    if window.last:
        kept = ~usable
        if newest is not None:
            start = newest - np.timedelta64(span(window.last))
            kept = ~usable | (times > start)
            recorded |= {"last": window.last, "from": written(start), "to": written(newest)}
    else:
        kept = _newest(times, usable, window.rows) | ~usable
        recorded |= {"rows": window.rows}
    return Chosen(kept, problems, recorded, watermark)


def past_times(texts: pa.Array, data: DataSection, watermark: str | None) -> Times:
    """Times [n]; NaT where there is none that can be read, or it lies beyond the snapshot's watermark: what the clock
    forbade when the source was read must not be the newest row for years."""
    times = parse_times(texts, data.window.format if data.window else None)
    if watermark is None:
        return np.full(len(times), np.datetime64("NaT"), dtype=times.dtype)
    # The watermark is written to the second.
    late = times >= np.datetime64(watermark.removesuffix("Z"), "us") + np.timedelta64(1, "s")
    times[late] = np.datetime64("NaT")
    return times


def _newest(times: Times, usable: Flags, rows: int | None) -> Flags:
    """The newest so many rows; those without a time count as older than all others, later ones of equal time as newer."""
    if rows is None or rows >= len(times):
        return np.ones(len(times), dtype=bool)
    oldest = np.datetime64("0001-01-01", "us")
    order = np.argsort(np.where(usable, times, oldest), kind="stable")
    kept = np.zeros(len(times), dtype=bool)
    kept[order[-rows:]] = True
    return kept
