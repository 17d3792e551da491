"""The most probable sequence of tags that strict IOB2 allows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from mlops.tasks.base import Floats

_NEVER = -1e9


def best_path(chances: Floats, labels: Sequence[str]) -> npt.NDArray[np.int64]:
    """Places of the tags [tokens] with the highest product of probabilities [tokens, tags] of all legal sequences.

    An I- goes on with the B- or I- of its own kind and with nothing else (Viterbi, "Error bounds for convolutional codes",
    1967). The most probable tags by themselves are the answer where they are legal, which is nearly always.
    """
    path = np.asarray(chances.argmax(axis=-1), dtype=np.int64)
    before, first = _forbidden(labels)
    if not len(path) or not (first[path[0]] or before[path[:-1], path[1:]].any()):
        return path
    # As small as can be: below a floor all tags would be as good, and the first one the answer.
    scores = np.log(np.maximum(chances, np.finfo(np.float64).tiny))
    steps = np.where(before, _NEVER, 0.0)
    best = scores[0] + np.where(first, _NEVER, 0.0)
    back = np.zeros(chances.shape, dtype=np.int64)
    for token in range(1, len(scores)):
        ways = best[:, None] + steps
        back[token] = ways.argmax(axis=0)
        best = ways.max(axis=0) + scores[token]
    path[-1] = best.argmax()
    for token in range(len(path) - 1, 0, -1):
        path[token - 1] = back[token, path[token]]
    return path


def _forbidden(labels: Sequence[str]) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """(which tag may not follow which [from, to], which may not come first)."""
    inside = np.array([label.startswith("I-") for label in labels])
    kinds = np.array([label.partition("-")[2] for label in labels])
    return inside[None, :] & (kinds[:, None] != kinds[None, :]), inside
