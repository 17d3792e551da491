"""Labels that have an order: how far off a model is, not only how often.

mae: mean distance in steps. within_one: share of rows at most one step off. qwk: kappa with quadratic weights (Cohen,
"Weighted kappa", Psychological Bulletin 70, 1968), 1 for perfect agreement, 0 for agreement by chance.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mlops.statistics.bootstrap import Floats
from mlops.statistics.classification import Ints, counts, ratio, scores


def confusion(labels: Ints, predicted: Ints, n_labels: int) -> Floats:
    """`classification.counts` and, before them, a 1 in the row's cell of the confusion matrix: [n, L² + 3 L + 1].

    A row whose label is unknown (-1) is in no cell: it is wrong, nobody knows by how much.
    """
    cells = np.zeros((len(labels), n_labels * n_labels))
    known = np.flatnonzero((labels >= 0) & (predicted >= 0))
    cells[known, labels[known] * n_labels + predicted[known]] = 1
    return np.hstack([cells, counts(labels, predicted, n_labels)])


def ordinal_scores(totals: Floats, names: Sequence[str]) -> dict[str, Floats]:
    """What `classification.scores` gives, and qwk, within_one and mae; of summed `confusion` [resamples, L² + 3 L + 1]."""
    size = len(names)
    matrix = totals[:, : size * size].reshape(-1, size, size)
    steps = np.abs(np.subtract.outer(np.arange(size), np.arange(size))).astype(np.float64)
    n = matrix.sum(axis=(1, 2))
    chance = matrix.sum(axis=2)[:, :, None] * matrix.sum(axis=1)[:, None, :]
    squares = steps**2
    off, expected = (matrix * squares).sum(axis=(1, 2)), ratio((chance * squares).sum(axis=(1, 2)), n)
    # Where one label is all there is, chance agrees as well as anybody.
    kappa = np.where(expected > 0, 1 - ratio(off, expected), 0.0)
    return scores(totals[:, size * size :], names) | {
        "qwk": kappa,
        # Of all rows: one whose label is unknown is not near it.
        "within_one": ratio((matrix * (steps <= 1)).sum(axis=(1, 2)), totals[:, -1]),
        "mae": ratio((matrix * steps).sum(axis=(1, 2)), n),
    }
