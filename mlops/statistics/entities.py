"""Precision, recall and F1 of entities in tagged text: an entity counts when its type and both ends are right.

The strict reading of IOB2 (seqeval's `mode="strict", scheme=IOB2`): tags outside of entities are never counted, so that
"O" earns nothing (Tjong Kim Sang and De Meulder, "Introduction to the CoNLL-2003 shared task", 2003).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mlops.statistics.bootstrap import Floats
from mlops.statistics.classification import ratio

Entity = tuple[str, int, int]  # type, start, end (exclusive), in tokens


def entity_counts(truth: Sequence[set[Entity]], found: Sequence[set[Entity]], types: Sequence[str]) -> Floats:
    """Per row its [tp, fp, fn] of every type: [n, 3 * types + 3], those of types that are not listed in the last three."""
    place = {name: position for position, name in enumerate(types)}
    other = len(types)
    out = np.zeros((len(truth), 3, other + 1))
    for row, (theirs, ours) in enumerate(zip(truth, found, strict=True)):
        for part, entities in enumerate((theirs & ours, ours - theirs, theirs - ours)):
            for kind, _, _ in entities:
                out[row, part, place.get(kind, other)] += 1
    return out.reshape(len(truth), -1)


def entity_scores(totals: Floats, types: Sequence[str]) -> dict[str, Floats]:
    """f1, precision and recall over all entities, macro_f1 over the types, and the three of each type as f1/TYPE.

    totals: summed `entity_counts` [resamples, 3 * types + 3]. What is neither there nor found has 0, as seqeval has it.
    """
    tp, fp, fn = np.moveaxis(totals.reshape(len(totals), 3, len(types) + 1), 1, 0)
    result = dict(
        zip(("f1", "precision", "recall"), _three(tp.sum(axis=1), fp.sum(axis=1), fn.sum(axis=1)), strict=True)
    )
    each = _three(tp[:, :-1], fp[:, :-1], fn[:, :-1])
    seen = (tp + fp + fn)[:, :-1] > 0
    result["macro_f1"] = each[0].sum(axis=1) / np.maximum(seen.sum(axis=1), 1)
    for name, values in zip(("f1", "precision", "recall"), each, strict=True):
        result |= {f"{name}/{kind}": values[:, position] for position, kind in enumerate(types)}
    return result


def _three(tp: Floats, fp: Floats, fn: Floats) -> tuple[Floats, Floats, Floats]:
    return ratio(2 * tp, 2 * tp + fp + fn), ratio(tp, tp + fp), ratio(tp, tp + fn)
