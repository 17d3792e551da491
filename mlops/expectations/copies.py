"""Expectations on how often a data set says the same thing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mlops.data.duplicates import near_duplicate_groups
from mlops.data.text import digests, normalise_all
from mlops.expectations.finding import Finding, arrow, share_finding

if TYPE_CHECKING:
    import pandas as pd


def exact_copies(frame: pd.DataFrame, column: str, max_share: float) -> Finding:
    """The share of rows whose text, whatever its case and white space, stood in an earlier row."""
    codes = digests(normalise_all(arrow(frame, column).fill_null("")), folded=True).dictionary_encode()
    later = np.ones(len(frame), dtype=bool)
    later[np.unique(codes.indices.to_numpy(), return_index=True)[1]] = False
    return share_finding(frame, later, column, max_share)


def near_duplicates(frame: pd.DataFrame, column: str, max_share: float, similarity: float) -> Finding:
    """The share of rows that are a copy or near-duplicate of an earlier row (Jaccard similarity of their words)."""
    texts = normalise_all(arrow(frame, column).fill_null(""))
    codes = digests(texts, folded=True).dictionary_encode().indices.to_numpy()
    _, first, inverse = np.unique(codes, return_index=True, return_inverse=True)
    groups = first[near_duplicate_groups(texts.take(first), similarity)][inverse] if len(first) else codes
    later = groups != np.arange(len(frame))
    finding = share_finding(frame, later, column, max_share)
    sizes = np.bincount(groups) if len(groups) else np.zeros(1, dtype=int)
    return finding._replace(detail=f"{finding.detail}; the largest group has {int(sizes.max())} rows")
