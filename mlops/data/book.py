"""The split book: which split every text that a pipeline ever saw belongs to. It only grows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from mlops import settings
from mlops.store import Store
from mlops.types import ArtifactRef

KEPT_OUT = "kept_out"  # a near-duplicate of a test text: in no split, and never to be trained on
# The stronger wins where two runs disagree: what was in test once is test for ever.
STRENGTH = {"train": 0, "validation": 1, KEPT_OUT: 2, "test": 3}
_FILE = "book.parquet"
_KIND = "split-book"


class Entry(NamedTuple):
    """group: key of the near-duplicate group when the text was first seen; unit: value of columns.group, if any."""

    split: str
    group: str
    unit: str | None = None


Book = dict[str, Entry]  # by mlops.data.text.text_key


def read_book(store: Store, ref: ArtifactRef | None) -> Book:
    """The book behind a reference; an empty one where there is none yet."""
    import pyarrow.parquet as pq

    if ref is None:
        return {}
    with pq.ParquetFile(store.fetch(ref) / _FILE) as file:
        columns = file.read().to_pydict()
    entries = map(Entry, columns["split"], columns["group"], columns["unit"])
    return dict(zip(columns["text_key"], entries, strict=True))


def put_book(store: Store, book: Book) -> ArtifactRef:
    """Stores a book; the same entries give the same artifact, in whatever order they came."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    keys = sorted(book)
    columns = {
        "text_key": pa.array(keys, pa.string()),
        "split": pa.array([book[key].split for key in keys], pa.string()),
        "group": pa.array([book[key].group for key in keys], pa.string()),
        "unit": pa.array([book[key].unit for key in keys], pa.string()),
    }
    with store.workspace() as folder:
        pq.write_table(pa.table(columns), folder / _FILE)
        return store.put(folder, _KIND)


def merge(book: Mapping[str, Entry], other: Mapping[str, Entry]) -> Book:
    """Both books' entries; of two for one text, the stronger split, else the first book's."""
    merged = dict(book)
    for key, entry in other.items():
        known = merged.get(key)
        if known is None or STRENGTH[entry.split] > STRENGTH[known.split]:
            merged[key] = entry
    return merged


def publish(store: Store, pipeline: str, pinned: ArtifactRef | None, book: Book) -> ArtifactRef:
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
