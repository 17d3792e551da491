"""Records into Arrow tables: a batch at once where its cells are plain, cell by cell where one of them is not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from mlops.config_data import SLICE, Columns
from mlops.data.forms import Form
from mlops.data.rows import WHOLE, Record, Row, label_cell, plain_cell
from mlops.data.text import digests, normalise_all

if TYPE_CHECKING:
    import pyarrow as pa

_BATCH_ROWS = 8192
_BATCH_CHARACTERS = 16_000_000
EXTRA = ("group", "time", "query")  # columns that a snapshot has where the pipeline names them


def names_of(columns: Columns) -> list[str]:
    """Columns of a raw snapshot's table, all of text but the digest, which is that of the normalised text."""
    named = ["row_id", "text", "label", "problem", "digest"] + [n for n in EXTRA if getattr(columns, n)]
    return named + [f"{SLICE}{name}" for name in columns.slices]


def schema(columns: Columns) -> pa.Schema:
    import pyarrow as pa

    kinds = {"digest": pa.binary(16)}
    return pa.schema([(name, kinds.get(name, pa.string())) for name in names_of(columns)])


def tables(records: Iterable[Record], columns: Columns, max_bytes: int, form: Form) -> Iterator[pa.Table]:
    """The records as tables of at most 8,192 rows; what is wrong with a row stands in `problem` (a key of PROBLEMS)."""
    for batch in _batches(records):
        quick = _quick(batch, columns, max_bytes) if form.plain else None
        yield quick or _careful(batch, columns, max_bytes, form)


def _batches(records: Iterable[Record]) -> Iterator[list[Record]]:
    batch: list[Record] = []
    characters = 0
    for record in records:
        batch.append(record)
        if record.cells is not None:
            characters += _characters(record.cells.values())
        if len(batch) >= _BATCH_ROWS or characters >= _BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


def _characters(values: Iterable[Any]) -> int:
    """How much some cells hold, whichever of them it is that is large."""
    count = 0
    for value in values:
        kind = type(value)
        if kind is str or kind is bytes:
            count += len(value)
        else:
            count += _nested(value) if kind is list or kind is dict else 1
    return count


def _nested(value: Any) -> int:
    """The same of lists and objects; without recursion, for JSON may be nested deeper than Python calls."""
    count, left = 0, [value]
    while left:
        found = left.pop()
        count += len(found) if isinstance(found, str | bytes) else 8
        if isinstance(found, dict):
            left += [*found.keys(), *found.values()]
        elif isinstance(found, list):
            left += found
    return count


class _NotPlain(Exception):
    """A cell that needs a closer look."""


def _quick(batch: Sequence[Record], columns: Columns, max_bytes: int) -> pa.Table | None:
    """The batch by whole columns; none where a cell is anything but plain."""
    import pyarrow as pa
    import pyarrow.compute as pc

    cells = [record.cells for record in batch if record.cells is not None]
    if len(cells) < len(batch):
        return None
    try:
        text = _texts([cell.get(columns.text) for cell in cells])
        label = _labels([cell.get(columns.label) for cell in cells])
        places = [record.place for record in batch]
        row_id = pa.array(places, pa.string())
        if columns.id:
            row_id = pc.coalesce(_plain([cell.get(columns.id) for cell in cells]), row_id)
        extra = {
            name: _plain([cell.get(column) for cell in cells]) for name in EXTRA if (column := getattr(columns, name))
        }
        extra |= {
            f"{SLICE}{name}": pa.array([plain_cell(cell.get(name)) for cell in cells], pa.string())
            for name in columns.slices
        }
    # What Arrow says of a value that is no text, of half a surrogate pair, and of bytes that are no UTF-8.
    except (pa.ArrowException, UnicodeEncodeError, OverflowError, _NotPlain):
        return None
    if (pc.max(pc.binary_length(text)).as_py() or 0) > max_bytes:
        return None
    found = {"row_id": row_id, "text": text, "label": label, "problem": pa.nulls(len(batch), pa.string())} | extra
    return _with_digests(found, columns)


def _with_digests(found: dict[str, pa.Array], columns: Columns) -> pa.Table:
    import pyarrow as pa
    import pyarrow.compute as pc

    # A text that has a problem is a preview: its digest would be that of another text.
    whole = pc.if_else(pc.is_null(found["problem"]), found["text"], pa.scalar(None, pa.string()))
    found["digest"] = digests(normalise_all(whole), folded=False)
    return pa.table([found[name] for name in names_of(columns)], schema=schema(columns))


def _texts(values: list[Any]) -> pa.Array:
    import pyarrow as pa
    import pyarrow.compute as pc

    found = pa.array(values, pa.string())
    if pc.any(pc.match_substring(found, "\x00")).as_py():
        raise _NotPlain
    return found


def _plain(values: list[Any]) -> pa.Array:
    """Ids, groups, times: text as it is, where `plain_cell` would leave it so."""
    import pyarrow.compute as pc

    found = _texts(values)
    sizes = pc.min_max(pc.binary_length(found)).as_py()
    if sizes["min"] == 0 or (sizes["max"] or 0) > WHOLE:
        raise _NotPlain
    return found


def _labels(values: list[Any]) -> pa.Array:
    """Labels as `label_cell` writes them, each distinct one looked at once."""
    import pyarrow as pa

    found = pa.array(values)
    kinds = (pa.types.is_string, pa.types.is_binary, pa.types.is_integer, pa.types.is_boolean)
    if not any(is_kind(found.type) for is_kind in kinds):
        raise _NotPlain
    codes = found.dictionary_encode()
    written = [label_cell(label, 1 << 16) for label in codes.dictionary.to_pylist()]
    if len(written) > 10_000 or any(problem for _, problem in written):
        raise _NotPlain
    return pa.array([label for label, _ in written], pa.string()).take(codes.indices)


def _careful(batch: Sequence[Record], columns: Columns, max_bytes: int, form: Form) -> pa.Table:
    import pyarrow as pa

    rows = [to_row(record, columns, max_bytes, form) for record in batch]
    names = [name for name in names_of(columns) if name != "digest" and not name.startswith(SLICE)]
    found = {name: pa.array([getattr(row, name) for row in rows], pa.string()) for name in names}
    found |= {
        f"{SLICE}{name}": pa.array([row.slices[place] if row.slices else None for row in rows], pa.string())
        for place, name in enumerate(columns.slices)
    }
    return _with_digests(found, columns)


def to_row(record: Record, columns: Columns, max_text_bytes: int, form: Form) -> Row:
    """A record's cells as text and label, with the first problem found, if any."""
    cells = record.cells
    if cells is None:
        return Row(record.place, record.preview, None, record.problem)
    row_id = plain_cell(cells.get(columns.id)) if columns.id else None
    found = form.read(cells, columns, max_text_bytes)
    extra = {name: plain_cell(cells.get(column)) for name in EXTRA if (column := getattr(columns, name))}
    slices = tuple(plain_cell(cells.get(name)) for name in columns.slices)
    return Row(row_id or record.place, found.text, found.label, found.problem, **extra, slices=slices)
