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
    """key: the text's digest whatever its case; it stands there once for each unit that the text came with, always with one
    split. unit: value of columns.group. text: of test texts alone, so that later rows can be compared with them when they
    have left the source."""
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
        pq.write_table(
            book.sort_by([("key", "ascending"), ("unit", "ascending")]),
            folder / _FILE,
            use_dictionary=["split", "unit"],
        )
        return store.put(folder, _KIND)


def known_splits(book: pa.Table, keys: pa.Array) -> Codes:
    """The split of each key [n], UNSEEN where the book does not have it."""
    return _looked_up(book["split"], book["key"], keys)


def unit_splits(book: pa.Table, units: pa.Array) -> Codes:
    """The strongest split that each unit [n] ever was in, KEPT_OUT if in none; UNSEEN for new ones and missing ones."""
    import pyarrow as pa
    import pyarrow.compute as pc

    known = book.filter(pc.is_valid(book["unit"]))
    if not known.num_rows:
        return np.full(len(units), UNSEEN, dtype=np.int8)
    # A unit is not kept out for one of its texts: what was is weaker here than any split.
    used = pc.if_else(pc.equal(known["split"], KEPT_OUT), pa.scalar(UNSEEN, pa.int8()), known["split"])
    strongest = known.set_column(1, "split", used).group_by("unit").aggregate([("split", "max")])
    codes = pc.if_else(pc.equal(strongest["split_max"], UNSEEN), pa.scalar(KEPT_OUT, pa.int8()), strongest["split_max"])
    return _looked_up(codes, strongest["unit"], units)


def has_unit(book: pa.Table, keys: pa.Array) -> npt.NDArray[np.bool_]:
    """Whether the book says of each key [n] what unit it is of."""
    import pyarrow.compute as pc

    known = book["key"].filter(pc.is_valid(book["unit"]))
    return np.asarray(pc.is_in(keys, known.combine_chunks()).to_numpy(zero_copy_only=False), dtype=bool)


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


def with_tests(book: pa.Table, keys: pa.Array, texts: pa.Array) -> pa.Table:
    """The book with these texts as test texts: neither they nor what resembles them ever trains. Of what unit they were
    is forgotten: all of its other rows would be test rows from then on."""
    import pyarrow as pa
    import pyarrow.compute as pc

    others = book.filter(pc.invert(pc.is_in(book["key"], keys)))
    count = len(keys)
    columns = [
        keys,
        pa.array(np.full(count, TEST, dtype=np.int8)),
        pa.nulls(count, pa.string()),
        texts.cast(pa.string()),
    ]
    return merge(others, pa.Table.from_arrays(columns, schema=book_schema()))


def merge(book: pa.Table, other: pa.Table) -> pa.Table:
    """Both books' entries; of several for one text the strongest split, with every unit that the text came with.

    A text of several units has an entry for each. A unit whose row was kept out says nothing about a text of a split:
    many say what somebody in test has said.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    both = pa.concat_tables([book, other]).combine_chunks()
    codes = _numbers(both["key"])
    splits = both["split"].to_numpy()
    strongest = np.full(codes.max(initial=-1) + 1, UNSEEN, dtype=np.int8)
    np.maximum.at(strongest, codes, splits)
    units = _numbers(both["unit"])
    units[(splits == KEPT_OUT) & (strongest[codes] != KEPT_OUT)] = -1
    of_unit = np.zeros(len(strongest), dtype=bool)
    of_unit[codes[units >= 0]] = True
    pairs = codes * (units.max(initial=-1) + 2) + units + 1
    _, first = np.unique(pairs, return_index=True)
    rows = np.sort(first[(units[first] >= 0) | ~of_unit[codes[first]]])
    # A text from whichever entry has it, on all of its entries: so that their order says nothing.
    texts = np.full(len(strongest), -1, dtype=np.int64)
    told = np.flatnonzero(pc.is_valid(both["text"]).to_numpy(zero_copy_only=False))[::-1]
    texts[codes[told]] = told
    place = pa.array(np.where(strongest == TEST, texts, -1)[codes[rows]])
    kept = pa.array(units[rows] >= 0)
    columns = {
        "key": both["key"].take(rows),
        "split": pa.array(strongest[codes[rows]], pa.int8()),
        "unit": pc.if_else(kept, both["unit"].take(rows), pa.scalar(None, pa.string())),
        "text": both["text"].take(pc.if_else(pc.less(place, 0), pa.scalar(None, pa.int64()), place)),
    }
    return pa.table(columns, schema=book_schema())


def _numbers(column: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    """A number per distinct value [n]; -1 where it is missing."""
    import pyarrow as pa
    import pyarrow.compute as pc

    codes = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
    return np.array(pc.fill_null(codes.dictionary_encode().indices, -1).to_numpy(), dtype=np.int64)


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
