"""Records from a source, whatever its format: bad ones carry their problem, none stops the reading."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import unquote

from mlops.config import PipelineConfig
from mlops.config_data import Columns, Shares
from mlops.data.archives import is_archive, opened
from mlops.data.batches import tables
from mlops.data.formats import READERS, SUFFIXES
from mlops.data.forms import Tokens, form_of, scheme_of
from mlops.data.globs import first_sign
from mlops.data.packed import inner_name, unpacked
from mlops.data.rows import Record
from mlops.data.uris import SourceFile, locate
from mlops.errors import SourceError

if TYPE_CHECKING:
    import pyarrow as pa

log = logging.getLogger("evergreen")


def read_tables(uri: str, config: PipelineConfig) -> Iterator[pa.Table]:
    """The rows of a source in a stable order: files by name, then as they stand in the file; see `batches.tables`.

    Raises SourceError when it cannot be reached or read, holds no row, or no row has a configured column.
    """
    columns, limit, form = source_columns(config), config.validate_.max_text_bytes, form_of(config)
    if isinstance(form, Tokens):
        # Read twice: which scheme tags are written in is told by all of them.
        form = Tokens(scheme_of(_records(uri, config, columns), columns))
    yield from tables(_records(uri, config, columns), columns, limit, form)


def source_columns(config: PipelineConfig) -> Columns:
    """The names of the columns in the source; the window's column is read as the time where no other is named, and the
    first text of a pair tells what is ranked together."""
    columns, window = config.data.columns, config.data.window
    query = (columns.query or columns.text_a) if config.task == "text-ranking" else None
    time = columns.time or (window.column if window else None)
    # Where the rows are split here, what is ranked together stays together.
    split_here = isinstance(config.data.splits, Shares)
    group = columns.group or (query if split_here else None)
    slices = tuple(dict.fromkeys([*columns.slices, *config.gate.slice_columns]))
    return columns.model_copy(update={"query": query, "time": time, "group": group, "slices": slices})


def _records(uri: str, config: PipelineConfig, columns: Columns) -> Iterator[Record]:
    more = (columns.id, columns.group, columns.time, columns.query, *columns.slices)
    wanted = list(dict.fromkeys([*form_of(config).wanted(columns), *(name for name in more if name)]))
    seen: dict[str, None] = {}
    count = parsed = 0
    for record in _of_source(uri, config, wanted, seen):
        count += 1
        parsed += record.cells is not None
        yield record
    if parsed or (seen and not count):
        _require_columns(uri, wanted, seen)
    if not count:
        raise SourceError(f"{uri}: is empty, found no row in it")


def _of_source(uri: str, config: PipelineConfig, wanted: Sequence[str], seen: dict[str, None]) -> Iterator[Record]:
    if uri.startswith("sql://"):
        from mlops.data.sql import read_sql

        yield from read_sql(uri, Path(config.root), wanted, seen)
        return
    limit = config.validate_.max_text_bytes
    with ExitStack() as stack:
        label = form_of(config).wanted(config.data.columns)[-1]
        files = [file for found in locate(uri, label) for file in _unarchived(uri, found, stack)]
        kind = config.data.format or infer_format(uri, files)
        if kind == "conll" and config.task != "token-classification":
            raise SourceError(f"{uri}: holds tokens and tags ({files[0].name}); {config.task} reads texts and labels")
        _require_room(uri, kind, config)
        for packed in _of_format(uri, files, kind):
            with unpacked(packed) as file:
                try:
                    yield from READERS[kind](file, limit, wanted, seen)
                except OSError as error:
                    raise SourceError(f"{uri}: {packed.path} cannot be read: {error.strerror or error}") from error


def _require_room(uri: str, kind: str, config: PipelineConfig) -> None:
    """Raises SourceError where slices need columns that a format, told by the files' names, does not have."""
    named = source_columns(config).slices
    if named and kind in ("conll", "text-folders"):
        raise SourceError(
            f"{uri}: gate.slices names the column {named[0]!r}; {kind} has no columns besides text and label: slice by "
            "label, n_tokens or n_chars"
        )


def _unarchived(uri: str, file: SourceFile, stack: ExitStack) -> list[SourceFile]:
    """The file, or what an archive holds; unpacked until the source has been read."""
    if not is_archive(file.name):
        return [file]
    members = stack.enter_context(opened(file))
    outright = any(f"/{form}".endswith(f"/{file.name}") for form in (uri, unquote(uri)))
    if outright and first_sign(uri) == len(uri):
        return members
    # It is one of several, now or later: their members may have the same names.
    return [SourceFile(f"{file.name}/{member.name}", member.path) for member in members]


def infer_format(uri: str, files: Sequence[SourceFile]) -> str:
    """The format that the files' names tell. Raises SourceError when they tell none, or more than one."""
    found = {kind for file in files for kind, suffixes in SUFFIXES.items() if _suffix(file) in suffixes}
    if found & {"jsonl", "csv", "parquet", "conll"}:
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
        kept = [file for file in kept if _depth(file) == 2]
    skipped = len(files) - len(kept)
    shape = "CLASS/FILE.txt" if kind == "text-folders" else " or ".join(SUFFIXES[kind])
    if not kept:
        raise SourceError(f"{uri}: found no {shape} for the format {kind}, but {_endings(files)}")
    if skipped:
        log.warning("%s: skipped %d files that are not %s", uri, skipped, shape)
    return kept


def _depth(file: SourceFile) -> int:
    """How many parts a name has below the source, or below the archive that the file was in."""
    parts = PurePosixPath(file.name).parts
    return next((n for n, part in enumerate(reversed(parts)) if n and is_archive(part)), len(parts))


def _suffix(file: SourceFile) -> str:
    return PurePosixPath(inner_name(file.name)).suffix.lower()


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
        "name the right ones in data.columns and gate.slices"
    )
