"""Prepared rows as token ids: texts and pairs through the cache, tagged tokens in windows."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np

from mlops.data.arrays import column
from mlops.data.tokens import TokenizerOf, tokenise
from mlops.errors import BaseModelError
from mlops.store import Store
from mlops.tasks.base import Task
from mlops.tasks.pieces import Pieces

if TYPE_CHECKING:
    import pyarrow as pa


def encoded_columns(task: Task, store: Store, tokenizer: TokenizerOf, rows: pa.Table) -> dict[str, Any]:
    """input_ids and n_tokens per row; `second` where rows are pairs; `bounds` and `starts` where they are tokens.

    rows: text and digest. See `mlops.tasks.prepared.Columns` for what the columns hold.
    """
    import pyarrow as pa

    if task.kind == "tokens":
        return _windows(tokenizer, rows["text"].to_pylist())
    found = tokenise(store, tokenizer, column(rows, "text"), column(rows, "digest"), task)
    columns = {"input_ids": found.ids, "n_tokens": pa.array(_lengths(found.ids), pa.int32())}
    return columns | ({"second": _seconds(tokenizer, found.ids)} if task.kind == "pair" else {})


def _lengths(ids: pa.Array) -> Any:
    import pyarrow.compute as pc

    return pc.list_value_length(ids).to_numpy(zero_copy_only=False)


def _windows(tokenizer: TokenizerOf, texts: list[str]) -> dict[str, Any]:
    import pyarrow as pa

    # Windows are cut here: the tokenizer must not cut before.
    tokenizer.tokenizer.no_truncation()
    pieces = Pieces(tokenizer.tokenizer, tokenizer.max_length)
    found = [pieces.windowed(text.split(" ")) for text in texts]
    columns: dict[str, Any] = {
        name: _lists([row[place] for row in found]) for place, name in enumerate(("input_ids", "bounds", "starts"))
    }
    return columns | {"n_tokens": pa.array([len(row.input_ids) for row in found], pa.int32())}


def _lists(values: list[Any]) -> pa.Array:
    import pyarrow as pa

    ends = np.fromiter(itertools.accumulate(map(len, values)), dtype=np.int32, count=len(values))
    flat = np.concatenate(values) if values else np.zeros(0, dtype=np.int32)
    offsets = np.concatenate([np.zeros(1, dtype=np.int32), ends])
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(flat, pa.int32()))


def _seconds(tokenizer: TokenizerOf, ids: pa.Array) -> pa.Array:
    """Where the second text of each pair begins, as the tokenizer's own token types have it."""
    import pyarrow as pa

    probe = tokenizer.tokenizer.encode("a", "a")
    first = sum(kind == 0 for kind in probe.type_ids)
    ends = ids.offsets.to_numpy()
    if first == len(probe.ids):  # token types are all one: the model tells the texts apart by its separators
        return pa.array(np.diff(ends), pa.int32())
    if not first:
        raise BaseModelError(f"the tokenizer gives a pair the token types {probe.type_ids}; allowed: 0 first, then 1")
    closing = probe.ids[first - 1]
    flat = ids.values.to_numpy()
    places = np.flatnonzero(flat == closing)
    # The first closing id of every row.
    at = places[np.searchsorted(places, ends[:-1])] if len(places) else ends[:-1]
    return pa.array(at + 1 - ends[:-1], pa.int32())
