"""What is confused with what, which rows changed hands, and what a perfect model would score on these labels."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from mlops.judging.answers import Rows, metric_values, unit_statistics
from mlops.judging.case import Case
from mlops.statistics.bootstrap import point

_PAIRS, _EXAMPLES, _CHANGED, _DRAWS = 10, 3, 10, 20


def confusions(rows: Rows) -> list[dict[str, Any]]:
    """The most frequent mistakes: label, predicted, rows, ids of some examples."""
    wrong = [place for place, right in enumerate(rows.right.tolist()) if not right]
    pairs = Counter((rows.labels[place], rows.predicted[place]) for place in wrong)
    found = []
    for (label, predicted), count in sorted(pairs.items(), key=lambda pair: (-pair[1], pair[0]))[:_PAIRS]:
        ids = [rows.ids[place] for place in wrong if (rows.labels[place], rows.predicted[place]) == (label, predicted)]
        found.append({"label": label, "predicted": predicted, "rows": count, "examples": ids[:_EXAMPLES]})
    return found


def changed(candidate: Rows, champion: Rows) -> dict[str, Any]:
    """Rows that only one of the two answers right: counts, and some of either kind with both answers."""
    ours, theirs = candidate.right, champion.right
    kinds = {"fixed": ours & ~theirs, "broken": ~ours & theirs}

    def some(name: str) -> list[dict[str, str]]:
        return [
            {
                "row_id": candidate.ids[place],
                "label": candidate.labels[place],
                "candidate": candidate.predicted[place],
                "champion": champion.predicted[place],
            }
            for place in np.flatnonzero(kinds[name])[:_CHANGED].tolist()
        ]

    counts: dict[str, Any] = {name: int(flags.sum()) for name, flags in kinds.items()}
    return counts | {"examples": {name: some(name) for name in kinds}}


def noise_ceiling(case: Case) -> dict[str, float] | None:
    """What a model that knows every true label would score against labels of which a share is wrong: mean of 20 draws in
    which that share of the rows gets another of the labels."""
    rate, rows = case.noise_rate, case.candidate
    kinds = sorted(set(rows.labels))
    if rate is None or not case.task.one_label or case.task.key == "text-ranking" or len(kinds) < 2:
        return None
    random = np.random.default_rng(0)
    place = {label: position for position, label in enumerate(kinds)}
    codes = np.array([place[label] for label in rows.labels])
    values = []
    for _ in range(_DRAWS):
        moved = (codes + random.integers(1, len(kinds), len(codes))) % len(kinds)
        noisy = np.where(random.random(len(codes)) < rate, moved, codes)
        judged = case.task.right(rows.judged)._replace(labels=[kinds[code] for code in noisy.tolist()])
        units = unit_statistics(case.task, rows, judged, case.outputs)
        values.append(point(units, metric_values(case.task, case.outputs))[case.rules.metric])
    return {"noise_rate": rate, "value": float(np.mean(values))}
