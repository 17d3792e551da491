"""Accuracy and F1 of a classifier, with bootstrap intervals from per-row counts.

F1 of a label is 2 tp / (2 tp + fp + fn), 0 where the label is neither present nor predicted (van Rijsbergen,
"Information Retrieval", 1979). Macro-F1 is their mean over the labels that are present or predicted, as scikit-learn has
it: a label without a row is no fault of the model's. Weighted F1 weighs them by support.
A resample is a vector of counts per row, so that all resamples are one matrix product with the rows' tp, fp and fn:
no metric library is called per resample.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from mlops.types import Metric

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

_CHUNK = 250  # resamples at a time: memory stays at chunk × rows × 8 bytes


def counts(labels: Ints, predicted: Ints, n_labels: int) -> Floats:
    """Per row its [tp, fp, fn] of every label: [n, 3 * n_labels]. Labels outside 0..n_labels-1 count as wrong."""
    n = len(labels)
    rows = np.arange(n)
    out = np.zeros((n, 3, n_labels))
    known, guessed = (labels >= 0) & (labels < n_labels), (predicted >= 0) & (predicted < n_labels)
    right = known & (labels == predicted)
    out[rows[right], 0, labels[right]] = 1
    out[rows[guessed & ~right], 1, predicted[guessed & ~right]] = 1
    out[rows[known & ~right], 2, labels[known & ~right]] = 1
    return out.reshape(n, 3 * n_labels)


def scores(totals: Floats, n: int, names: Sequence[str]) -> dict[str, Floats]:
    """Metrics of summed counts [resamples, 3 * labels]: {name: [resamples]}. n: rows per resample."""
    tp, fp, fn = np.moveaxis(totals.reshape(len(totals), 3, len(names)), 1, 0)
    denominator = 2 * tp + fp + fn
    f1 = np.divide(2 * tp, denominator, out=np.zeros_like(tp), where=denominator > 0)
    support = tp + fn
    total = support.sum(axis=1, keepdims=True)
    weights = np.divide(support, total, out=np.zeros_like(support), where=total > 0)
    result = {
        "accuracy": tp.sum(axis=1) / max(n, 1),
        "macro_f1": f1.sum(axis=1) / np.maximum((denominator > 0).sum(axis=1), 1),
        "weighted_f1": (f1 * weights).sum(axis=1),
    }
    return result | {f"f1/{name}": f1[:, position] for position, name in enumerate(names)}


def resampled(rows: Floats, resamples: int, seed: int) -> Iterator[Floats]:
    """Sums of `rows` [n, k] over bootstrap resamples of the rows (Efron, 1979), in chunks of [≤ 250, k]."""
    n = len(rows)
    random = np.random.default_rng(seed)
    for start in range(0, resamples, _CHUNK):
        size = min(_CHUNK, resamples - start)
        yield random.multinomial(n, np.full(n, 1 / n), size=size).astype(np.float64) @ rows


def metrics(
    labels: Ints, predicted: Ints, names: Sequence[str], resamples: int = 2000, seed: int = 0
) -> dict[str, Metric]:
    """accuracy, macro_f1, weighted_f1 and f1/LABEL with 95% percentile-bootstrap intervals over the rows.

    labels, predicted: [n] positions in `names`; -1 is a label that the model does not know. Raises ValueError without rows.
    """
    n = len(labels)
    if n == 0:
        raise ValueError("no rows to score")
    rows = counts(np.asarray(labels), np.asarray(predicted), len(names))
    point = scores(rows.sum(axis=0, keepdims=True), n, names)
    draws = [scores(chunk, n, names) for chunk in resampled(rows, resamples, seed)]
    result = {}
    for name, value in point.items():
        low, high = np.quantile(np.concatenate([draw[name] for draw in draws]), [0.025, 0.975])
        result[name] = Metric(value=float(value[0]), low=float(low), high=float(high), n=n)
    return result
