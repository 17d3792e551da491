"""How well candidates are ordered within their group (the answers to one question, the items of one user).

ndcg@k: gains 2^grade - 1, discounted by log2 of the rank + 1, over those of the best order (Järvelin and Kekäläinen,
"Cumulated gain-based evaluation of IR techniques", 2002; the gain of Burges et al., 2005). mrr: 1 / rank of the first
relevant one (Voorhees, 1999). map: mean of the precision at each relevant one. recall@k: share of the relevant ones
among the first k. Relevant is a grade above 0. Groups without a relevant candidate, or without any other, say nothing
about an order: they are left out, as the clean TREC QA sets do it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mlops.statistics.bootstrap import Floats
from mlops.statistics.classification import ratio

CUTS = (1, 3, 10)
NAMES = ("mrr", "map", "ndcg@10", *(f"recall@{cut}" for cut in CUTS))


def ranking_units(grades: Sequence[float], scores: Sequence[float], groups: Sequence[str]) -> Floats:
    """Per group, in the order of its first row, its value of each of NAMES and a 1: [groups, 7].

    Groups that are left out are zeros. Candidates with equal scores are ordered worst first: a tie is no success.
    """
    # A group's name is its whole query: as an array of texts every one would take as much room as the longest.
    numbers: dict[str, int] = {}
    codes = np.array([numbers.setdefault(group, len(numbers)) for group in groups], dtype=np.int64)
    gain, score = np.asarray(grades, dtype=np.float64), np.asarray(scores, dtype=np.float64)
    order = np.lexsort((gain, -score, codes))
    bounds = np.flatnonzero(np.diff(codes[order], prepend=-1))
    units = np.zeros((len(numbers), len(NAMES) + 1))
    for members in np.split(order, bounds[1:]):
        if len(members):
            units[codes[members[0]]] = _group(gain[members])
    return units


def _group(grades: Floats) -> Floats:
    """The values of one group; grades in the order that the model gave them."""
    relevant = grades > 0
    if not relevant.any() or relevant.all():
        return np.zeros(len(NAMES) + 1)
    ranks = np.flatnonzero(relevant) + 1
    precision = np.arange(1, len(ranks) + 1) / ranks
    values = [1 / ranks[0], precision.mean(), _dcg(grades) / _dcg(np.sort(grades)[::-1])]
    values += [(ranks <= cut).sum() / len(ranks) for cut in CUTS]
    return np.array([*values, 1.0])


def _dcg(grades: Floats, cut: int = 10) -> float:
    top = grades[:cut]
    return float(((2.0**top - 1) / np.log2(np.arange(2, len(top) + 2))).sum())


def ranking_scores(totals: Floats) -> dict[str, Floats]:
    """The means over groups, [resamples] each, of summed `ranking_units` [resamples, 7]."""
    return {name: ratio(totals[:, place], totals[:, -1]) for place, name in enumerate(NAMES)}
