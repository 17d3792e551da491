"""The split book: which split every text that a pipeline ever saw belongs to. It only grows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from mlops import settings
from mlops.store import Store
from mlops.types import ArtifactRef

if TYPE_CHECKING:
    import pyarrow as pa

Codes = npt.NDArray[np.int8]

# Splits as numbers: the stronger wins where two runs disagree, for what was in test once is test for ever. Kept out is a
# near-duplicate of a test text: in no split, and never to be trained on.
UNSEEN, TRAIN, VALIDATION, KEPT_OUT, TEST = -1, 0, 1, 2, 3
CODES = {"train": TRAIN, "validation": VALIDATION, "kept_out": KEPT_OUT, "test": TEST}
NAMES = {code: name for name, code in CODES.items()}
_FILE = "book.parquet"
_KIND = "split-book"


def book_schema() -> pa.Schema:
    """key: the text's digest whatever its case. unit: value of columns.group. text: of test texts alone, so that later rows
    can be compared with them when they have left the source."""
    import pyarrow as pa

    fields = [("key", pa.binary(16)), ("split", pa.int8()), ("unit", pa.string()), ("text", pa.string())]
    return pa.schema(fields)


def empty_book() -> pa.Table:
    return book_schema().empty_table()


def read_book(store: Store, ref: ArtifactRef | None) -> pa.Table:
    """The book behind a reference; an empty one where there is none yet."""
    import pyarrow.parquet as pq

    if ref is None:
        return empty_book()
    with pq.ParquetFile(store.fetch(ref) / _FILE) as file:
        return file.read().cast(book_schema())


def put_book(store: Store, book: pa.Table) -> ArtifactRef:
    """Stores a book; the same entries give the same artifact, in whatever order they came."""
    import pyarrow.parquet as pq

    with store.workspace() as folder:
        pq.write_table(book.sort_by("key"), folder / _FILE, use_dictionary=["split", "unit"])
        return store.put(folder, _KIND)


def known_splits(book: pa.Table, keys: pa.Array) -> Codes:
    """The split of each key [n], UNSEEN where the book does not have it."""
    return _looked_up(book["split"], book["key"], keys)


def unit_splits(book: pa.Table, units: pa.Array) -> Codes:
    """The strongest split that each unit [n] ever was in; UNSEEN for new ones and for missing ones."""
    import pyarrow.compute as pc

    known = book.filter(pc.is_valid(book["unit"]))
    if not known.num_rows:
        return np.full(len(units), UNSEEN, dtype=np.int8)
    strongest = known.group_by("unit").aggregate([("split", "max")])
    return _looked_up(strongest["split_max"], strongest["unit"], units)


def _looked_up(values: pa.ChunkedArray, keys: pa.ChunkedArray, wanted: pa.Array) -> Codes:
    import pyarrow.compute as pc

    places = pc.fill_null(pc.index_in(wanted, keys.combine_chunks(), skip_nulls=True), -1).to_numpy()
    table = np.append(values.to_numpy(), np.int8(UNSEEN)).astype(np.int8)
    return np.asarray(table[places])


def unseen_test_texts(book: pa.Table, keys: pa.Array) -> pa.Table:
    """The book's test texts that are not among the keys: rows of long ago that new ones are still compared with."""
    import pyarrow.compute as pc

    frozen = book.filter(pc.and_(pc.equal(book["split"], TEST), pc.is_valid(book["text"])))
    return frozen.filter(pc.invert(pc.is_in(frozen["key"], keys)))


def merge(book: pa.Table, other: pa.Table) -> pa.Table:
    """Both books' entries; of two for one text, the stronger split, else the first book's."""
    import pyarrow as pa

    both = pa.concat_tables([book, other])
    codes = both["key"].combine_chunks().dictionary_encode().indices.to_numpy()
    strength = -both["split"].to_numpy().astype(np.int64)
    order = np.lexsort((np.arange(len(codes)), strength, codes))
    first = np.ones(len(order), dtype=bool)
    first[1:] = codes[order][1:] != codes[order][:-1]
    return both.take(pa.array(np.sort(order[first])))


def publish(store: Store, pipeline: str, pinned: ArtifactRef | None, book: pa.Table) -> ArtifactRef:
    """Stores the book and points the pipeline to it; returns the book's own reference.

    Where another run has moved the pointer since `pinned`, the pointer gets both runs' entries.
    """
    from filelock import FileLock

    ref = put_book(store, book)
    locks: Path = settings.current().locks
    locks.mkdir(parents=True, exist_ok=True)
    name = f"splits/{pipeline}"
    with FileLock(locks / f"splits-{pipeline}.lock"):
        found = store.read_document(name)
        now = ArtifactRef.model_validate(found) if found else None
        newest = ref
        if now is not None and (pinned is None or now.sha256 != pinned.sha256) and now.sha256 != ref.sha256:
            newest = put_book(store, merge(read_book(store, now), book))
        if now is None or now.sha256 != newest.sha256:
            store.write_document(name, newest.model_dump(mode="json"))
    return ref
