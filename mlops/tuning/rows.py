"""The rows of a trial: as its base model's tokenizer reads them, and a share of those that train."""

from __future__ import annotations

from typing import Any

from mlops.data.encode import encoded_columns
from mlops.data.snapshots import ROWS, read_table, share
from mlops.data.text import digests
from mlops.data.tokens import TokenizerOf, open_tokenizer
from mlops.store import Store, open_store
from mlops.tasks.base import Task
from mlops.training.base import resolve_pinned
from mlops.types import ArtifactRef, Base, Snapshot


def read_by(snapshot: Snapshot, prepared_for: Base, base: Base, max_length: int, task: Task) -> Snapshot:
    """The same rows under the same revision with the tokens of another base; as it is where both have one tokenizer.

    Only what is trained on is read by its tokens: test stays as it is, its rows are judged by their texts.
    """
    store = open_store()
    before, after = (open_tokenizer(resolve_pinned(each), max_length) for each in (prepared_for, base))
    if before.digest == after.digest:
        return snapshot
    splits = {name: _retokenised(store, snapshot.splits[name], after, task) for name in ("train", "validation")}
    return snapshot.model_copy(update={"splits": snapshot.splits | splits})


def _retokenised(store: Store, split: ArtifactRef, tokenizer: TokenizerOf, task: Task) -> ArtifactRef:
    import pyarrow as pa

    table = read_table(store.fetch(split))
    texts = pa.concat_arrays(table["text"].chunks) if table.num_rows else pa.array([], pa.string())
    asked = pa.table({"text": texts, "digest": digests(texts, folded=False)})
    for name, values in encoded_columns(task, store, tokenizer, asked).items():
        table = table.set_column(table.column_names.index(name), name, values)
    return _put(store, table)


def part_of(snapshot: Snapshot, rows: float) -> Snapshot:
    """A share of the train rows, the same ones every time; at least one of every label that a text has by itself."""
    if rows == 1.0:
        return snapshot
    import numpy as np
    import pyarrow as pa

    store = open_store()
    table = read_table(store.fetch(snapshot.splits["train"]))
    kept = share(table["row_id"].to_pylist(), rows)
    _, first = np.unique(table["label"].to_numpy(zero_copy_only=False), return_index=True)
    if len(first) <= len(kept) * rows:  # else labels are as good as texts, such as the tags of sentences
        kept[first] = True
    train = _put(store, table.filter(pa.array(kept)))
    return snapshot.model_copy(
        update={
            "splits": snapshot.splits | {"train": train},
            "rows": snapshot.rows | {"train": int(kept.sum())},
        }
    )


def _put(store: Store, table: Any) -> ArtifactRef:
    import pyarrow.parquet as pq

    with store.workspace() as folder:
        pq.write_table(table, folder / ROWS, use_dictionary=["label"], row_group_size=1 << 16)
        return store.put(folder, "prepared")
