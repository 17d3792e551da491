"""Rows from a source, whatever its format: bad ones carry their problem, none stops the reading."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath

from mlops.config import Columns
from mlops.data.formats import READERS, SUFFIXES
from mlops.data.rows import Record, Row, label_cell, plain_cell, showable, text_cell
from mlops.data.uris import SourceFile, locate
from mlops.errors import SourceError

log = logging.getLogger("evergreen")


def read_rows(uri: str, format: str | None, columns: Columns, max_text_bytes: int) -> Iterator[Row]:
    """The rows of a source in a stable order: files by name, then as they stand in the file.

    Raises SourceError when it cannot be reached or read, holds no row, or no row has a configured column.
    """
    files = locate(uri, columns.label)
    kind = format or infer_format(uri, files)
    files = _of_format(uri, files, kind)
    names = Columns(text="text", label="label") if kind == "text-folders" else columns
    wanted = [name for name in (names.text, names.label, names.id, names.group, names.time) if name]
    seen: dict[str, None] = {}
    count = parsed = 0
    for file in files:
        try:
            for record in READERS[kind](file, max_text_bytes, wanted, seen):
                count += 1
                parsed += record.cells is not None
                yield to_row(record, names, max_text_bytes)
        except OSError as error:
            raise SourceError(f"{uri}: {file.path} cannot be read: {error.strerror or error}") from error
    if parsed or (seen and not count):
        _require_columns(uri, wanted, seen)
    if not count:
        raise SourceError(f"{uri}: is empty, found no row in {len(files)} file(s) read as {kind}")


def to_row(record: Record, columns: Columns, max_text_bytes: int) -> Row:
    """A record's cells as text and label, with the first problem found, if any."""
    cells = record.cells
    if cells is None:
        return Row(record.place, record.preview, None, record.problem)
    row_id = plain_cell(cells.get(columns.id)) if columns.id else None
    label, label_problem = label_cell(cells.get(columns.label), max_text_bytes)
    text, problem = text_cell(cells.get(columns.text), max_text_bytes)
    if label_problem and label is not None:
        label = label[:100]
    if text is not None and label_problem and not problem:
        text = showable(text)
    return Row(
        row_id=row_id or record.place,
        text=text,
        label=label,
        problem=problem or label_problem,
        group=plain_cell(cells.get(columns.group)) if columns.group else None,
        time=plain_cell(cells.get(columns.time)) if columns.time else None,
    )


def infer_format(uri: str, files: Sequence[SourceFile]) -> str:
    """The format that the files' names tell. Raises SourceError when they tell none, or more than one."""
    found = {kind for file in files for kind, suffixes in SUFFIXES.items() if _suffix(file) in suffixes}
    if found & {"jsonl", "csv", "parquet"}:
        found -= {"text-folders"}  # a README.txt beside the data
    if len(found) == 1:
        return found.pop()
    what = f"files of {len(found)} formats ({', '.join(sorted(found))})" if found else _endings(files)
    raise SourceError(f"{uri}: found {what}; name one in data.format: {', '.join(READERS)}")


def _of_format(uri: str, files: Sequence[SourceFile], kind: str) -> list[SourceFile]:
    """The files that belong to the format; one file named outright is taken whatever its ending."""
    if kind != "text-folders" and len(files) == 1:
        return list(files)
    kept = [file for file in files if _suffix(file) in SUFFIXES[kind]]
    if kind == "text-folders":
        kept = [file for file in kept if len(PurePosixPath(file.name).parts) == 2]
    skipped = len(files) - len(kept)
    shape = "CLASS/FILE.txt" if kind == "text-folders" else " or ".join(SUFFIXES[kind])
    if not kept:
        raise SourceError(f"{uri}: found no {shape} for the format {kind}, but {_endings(files)}")
    if skipped:
        log.warning("%s: skipped %d files that are not %s", uri, skipped, shape)
    return kept


def _suffix(file: SourceFile) -> str:
    return PurePosixPath(file.name).suffix.lower()


def _endings(files: Sequence[SourceFile]) -> str:
    names = ", ".join(file.name for file in files[:5])
    return f"{len(files)} file(s): {names}{', …' if len(files) > 5 else ''}"


def _require_columns(uri: str, wanted: Sequence[str], seen: dict[str, None]) -> None:
    missing = [name for name in wanted if name not in seen]
    if not missing:
        return
    names = list(seen)
    lines = []
    for name in missing:
        close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
        lines.append(f"{name!r}" + (f" (did you mean {close[0]!r}?)" if close else ""))
    raise SourceError(
        f"{uri}: no row has the column {', '.join(lines)}; found: {', '.join(names[:30]) or 'none'}; "
        "name the right ones in data.columns"
    )
