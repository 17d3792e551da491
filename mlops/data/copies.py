"""Exact copies: one row per text stays, none of a text that has several labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import pyarrow as pa

Indices = npt.NDArray[np.int64]


class Distinct(NamedTuple):
    """kept: row numbers that stay, ascending. copies: row numbers dropped because another row has their text.
    contradicting: row numbers dropped because rows of their text have different labels."""

    kept: Indices
    copies: Indices
    contradicting: Indices


def distinct(keys: pa.Array, parts: Indices, labels: pa.Array, row_ids: pa.Array) -> Distinct:
    """Which rows [n] stay: per text and part (split) the one with the smallest id, in whatever order they come.

    keys: digests whatever the case. parts: small numbers.
    """
    codes = keys.dictionary_encode().indices.to_numpy().astype(np.int64)
    codes = codes * (int(parts.max(initial=0)) + 1) + parts
    _, numbers, counts = np.unique(codes, return_inverse=True, return_counts=True)
    several = np.flatnonzero(counts[numbers] > 1)
    if not len(several):
        none = np.zeros(0, dtype=np.int64)
        return Distinct(np.arange(len(codes)), none, none)
    ids = np.asarray(row_ids.take(several).to_pylist(), dtype=object)
    names = labels.take(several).dictionary_encode().indices.to_numpy()
    of = numbers[several]
    order = np.lexsort((np.argsort(np.argsort(ids, kind="stable"), kind="stable"), of))
    starts = np.flatnonzero(np.concatenate([[True], of[order][1:] != of[order][:-1]]))
    sizes = np.diff(np.append(starts, len(order)))
    sorted_names = names[order]
    differ = np.minimum.reduceat(sorted_names, starts) != np.maximum.reduceat(sorted_names, starts)
    first = np.zeros(len(order), dtype=bool)
    first[starts] = True
    against = np.repeat(differ, sizes)
    contradicting = np.sort(several[order[against]])
    copies = np.sort(several[order[~against & ~first]])
    stays = np.ones(len(codes), dtype=bool)
    stays[contradicting] = stays[copies] = False
    return Distinct(np.flatnonzero(stays), copies, contradicting)
