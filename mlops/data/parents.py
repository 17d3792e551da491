"""The raw snapshot of a pipeline's last retrain: what new rows are told by and shifts are measured from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlops.data.snapshots import read_table
from mlops.errors import StoreError
from mlops.store import Store
from mlops.types import Snapshot

if TYPE_CHECKING:
    import pyarrow as pa


def _name(pipeline: str) -> str:
    return f"snapshots/{pipeline}"


def record(store: Store, raw: Snapshot) -> None:
    """Makes a raw snapshot the one that later ones are compared with. Called once a retrain on it has ended."""
    store.write_document(f"{_name(raw.pipeline)}/{raw.revision}", raw.model_dump(mode="json"))
    store.write_document(_name(raw.pipeline), {"revision": raw.revision})


def last_retrained(store: Store, pipeline: str) -> Snapshot | None:
    """The raw snapshot of the pipeline's last retrain."""
    pointer = store.read_document(_name(pipeline))
    return recorded(store, pipeline, pointer["revision"]) if pointer else None


def parent_of(store: Store, raw: Snapshot, last: Snapshot) -> Snapshot | None:
    """What a snapshot is compared with: the last one, or where that has the same rows the one before it, so that looking
    at the same rows again changes nothing."""
    if last.revision != raw.revision:
        return last
    return recorded(store, raw.pipeline, last.parent_sha256) if last.parent_sha256 else None


def recorded(store: Store, pipeline: str, revision: str) -> Snapshot | None:
    """A raw snapshot that a retrain used; none where it is not known, or its rows are gone from the store."""
    found = store.read_document(f"{_name(pipeline)}/{revision}")
    snapshot = Snapshot.model_validate(found) if found else None
    return snapshot if snapshot and all(store.exists(ref) for ref in snapshot.splits.values()) else None


def new_rows(store: Store, raw: Snapshot, parent: Snapshot) -> int:
    """Distinct usable examples, a text with its label, of the growing part (all, or train) that the parent does not have.

    A corrected label counts, and a row that was of no use and is now; copies count once, and what cannot train not at all.
    """
    import pyarrow.compute as pc

    if raw.revision == parent.revision:
        return 0
    now, before = (_examples(store, each) for each in (raw, parent))
    if now is None:
        return 0
    known = pc.is_in(now, before) if before is not None else None
    return int(len(now) - (pc.sum(known).as_py() or 0 if known is not None else 0))


def _examples(store: Store, snapshot: Snapshot) -> pa.Array | None:
    """The distinct examples of a snapshot, each as its text's digest with the label behind."""
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        folder = store.fetch(snapshot.splits["all" if "all" in snapshot.splits else "train"])
    except (KeyError, StoreError):
        return None
    rows = read_table(folder, ["digest", "label", "problem"])
    rows = rows.filter(pc.is_null(rows["problem"]))
    # Large: the offsets of a plain binary column end at 2 GB. Missing where either part is.
    parts = [rows[name].combine_chunks().cast(pa.large_binary()) for name in ("digest", "label")]
    return pc.binary_join_element_wise(*parts, pa.scalar(b"", pa.large_binary())).drop_null().unique()
