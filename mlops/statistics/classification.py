"""Accuracy and F1 of classifiers from counts per row: one label a row, or any number of them.

F1 of a label is 2 tp / (2 tp + fp + fn), 0 where the label is neither present nor predicted (van Rijsbergen,
"Information Retrieval", 1979). Macro-F1 is their mean over the labels that are present or predicted, as scikit-learn has
it: a label without a row is no fault of the model's. Weighted F1 weighs them by support; micro-F1 counts all labels
together.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from mlops.statistics.bootstrap import Floats

Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


def counts(labels: Ints, predicted: Ints, n_labels: int) -> Floats:
    """Per row its [tp, fp, fn] of every label, and a 1: [n, 3 * n_labels + 1]. Labels outside 0..n_labels-1 are wrong."""
    n = len(labels)
    rows = np.arange(n)
    out = np.zeros((n, 3, n_labels))
    known, guessed = (labels >= 0) & (labels < n_labels), (predicted >= 0) & (predicted < n_labels)
    right = known & (labels == predicted)
    out[rows[right], 0, labels[right]] = 1
    out[rows[guessed & ~right], 1, predicted[guessed & ~right]] = 1
    out[rows[known & ~right], 2, labels[known & ~right]] = 1
    return _with_ones(out.reshape(n, 3 * n_labels))


def scores(totals: Floats, names: Sequence[str]) -> dict[str, Floats]:
    """accuracy, macro_f1, weighted_f1 and f1/LABEL, [resamples] each, of summed counts [resamples, 3 * labels + 1]."""
    tp, fp, fn = _parts(totals[:, :-1], len(names))
    result = {"accuracy": tp.sum(axis=1) / np.maximum(totals[:, -1], 1)} | _f1(tp, fp, fn, names)
    del result["micro_f1"]  # with one label a row it is the accuracy
    return result


def set_counts(labels: Flags, predicted: Flags, exact: Flags) -> Floats:
    """Per row its [tp, fp, fn] of every label, whether all are right, and a 1: [n, 3 * n_labels + 2].

    labels, predicted: [n, n_labels], which labels a row has. exact [n]: whether they are the same, unknown labels counted.
    """
    parts = np.stack([labels & predicted, ~labels & predicted, labels & ~predicted], axis=1)
    return _with_ones(np.hstack([parts.reshape(len(labels), -1), exact[:, None]]).astype(np.float64))


def set_scores(totals: Floats, names: Sequence[str]) -> dict[str, Floats]:
    """accuracy (all labels of a row right), macro_f1, micro_f1, weighted_f1, f1/LABEL of summed `set_counts`."""
    tp, fp, fn = _parts(totals[:, :-2], len(names))
    return {"accuracy": totals[:, -2] / np.maximum(totals[:, -1], 1)} | _f1(tp, fp, fn, names)


def _f1(tp: Floats, fp: Floats, fn: Floats, names: Sequence[str]) -> dict[str, Floats]:
    denominator = 2 * tp + fp + fn
    f1 = ratio(2 * tp, denominator)
    support = tp + fn
    weights = ratio(support, support.sum(axis=1, keepdims=True))
    result = {
        "macro_f1": f1.sum(axis=1) / np.maximum((denominator > 0).sum(axis=1), 1),
        "micro_f1": ratio(2 * tp.sum(axis=1), denominator.sum(axis=1)),
        "weighted_f1": (f1 * weights).sum(axis=1),
    }
    return result | {f"f1/{name}": f1[:, position] for position, name in enumerate(names)}


def ratio(above: Floats, below: Floats) -> Floats:
    """above / below, 0 where there is nothing below."""
    return np.divide(above, below, out=np.zeros(np.broadcast_shapes(above.shape, below.shape)), where=below > 0)


def _parts(totals: Floats, labels: int) -> tuple[Floats, Floats, Floats]:
    tp, fp, fn = np.moveaxis(totals.reshape(len(totals), 3, labels), 1, 0)
    return tp, fp, fn


def _with_ones(rows: Floats) -> Floats:
    return np.hstack([rows, np.ones((len(rows), 1))])
