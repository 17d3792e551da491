"""Any number of labels per text, none included."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mlops.statistics.classification import Flags, set_counts, set_scores
from mlops.tasks.base import Answers, Confidences, Examples, Floats, Judged, Logits, Rules
from mlops.tasks.prepared import columns_of, refuse
from mlops.tasks.text_classification import TextClassification

THRESHOLD = 0.5  # probability from which a label is given


class MultiLabel(TextClassification):
    """A label cell is a sorted JSON list of names; targets are 0 or 1 per label, each judged by itself."""

    key = "text-classification:multi"
    one_label = False

    def label_names(self, label: str) -> Sequence[str]:
        return [str(name) for name in json.loads(label)]

    def read(self, folder: Path, labels: Sequence[str]) -> Examples:
        columns = columns_of(folder)
        sets = [set(self.label_names(label)) for label in columns.labels]
        known = set(labels)
        refuse([row for row, names in zip(columns.row_ids, sets, strict=True) if not names <= known], labels)
        targets = [np.array([name in names for name in labels], dtype=np.float32) for names in sets]
        return Examples(columns.row_ids, columns.input_ids, targets)

    def collate(self, targets: Sequence[Any], longest: int) -> npt.NDArray[Any]:
        """float32 [batch, labels]."""
        return np.stack(targets)

    def losses(self, logits: Any, targets: Any, rules: Rules) -> tuple[Any, Any]:
        """Binary cross-entropy, the mean over the labels; a label's weight is that of its positive cases."""
        import torch
        from torch.nn.functional import binary_cross_entropy_with_logits

        weights = None if rules.weights is None else torch.tensor(rules.weights, device=logits.device)
        smooth = targets * (1 - rules.smoothing) + rules.smoothing / 2
        sums = binary_cross_entropy_with_logits(logits.float(), smooth, reduction="none", pos_weight=weights)
        return sums.mean(dim=1), torch.ones_like(sums[:, 0])

    def counts(self, examples: Examples, labels: Sequence[str]) -> npt.NDArray[np.int64]:
        return np.asarray(np.sum(examples.targets, axis=0), dtype=np.int64)

    def cells(self, examples: Examples, labels: Sequence[str]) -> list[str]:
        return [written([labels[int(place)] for place in np.flatnonzero(target)]) for target in examples.targets]

    def metric_names(self, labels: Sequence[str]) -> list[str]:
        return ["accuracy", "macro_f1", "micro_f1", "weighted_f1", *(f"f1/{label}" for label in labels)]

    def answers(self, logits: Sequence[Logits], labels: Sequence[str]) -> Answers:
        """The labels from a probability of .5 on; a row's score is the certainty of its least certain label."""
        if not len(logits):
            return Answers([], np.zeros(0), [])
        chances = probabilities(logits)
        given = chances >= THRESHOLD
        predicted = [written([labels[int(place)] for place in np.flatnonzero(row)]) for row in given]
        return Answers(predicted, np.maximum(chances, 1 - chances).min(axis=1), list(chances))

    def statistics(self, rows: Judged, labels: Sequence[str]) -> Floats:
        exact = np.array([one == other for one, other in zip(rows.labels, rows.predicted, strict=True)])
        return set_counts(self._flags(rows.labels, labels), self._flags(rows.predicted, labels), exact)

    def _flags(self, cells: Sequence[str], labels: Sequence[str]) -> Flags:
        place = {label: position for position, label in enumerate(labels)}
        flags = np.zeros((len(cells), len(labels)), dtype=bool)
        for row, cell in enumerate(cells):
            for name in self.label_names(cell):
                if name in place:
                    flags[row, place[name]] = True
        return flags

    def values(self, totals: Floats, labels: Sequence[str]) -> Mapping[str, Floats]:
        return set_scores(totals, labels)

    def wrong(self, rows: Judged, labels: Sequence[str]) -> Judged:
        """No label for rows that have some, all for those that have none."""
        none, every = written([]), written(labels)
        return rows._replace(predicted=[every if cell == none else none for cell in rows.labels])

    def confidences(self, rows: Judged, chances: Sequence[Any], labels: Sequence[str]) -> Confidences | None:
        """One answer a row and label, as sure as the label is probable, or its absence."""
        found = np.stack([np.asarray(row, dtype=np.float64) for row in chances])
        right = (found >= THRESHOLD) == self._flags(rows.labels, labels)
        return Confidences(
            np.maximum(found, 1 - found).ravel(), right.ravel(), np.repeat(np.arange(len(found)), len(labels))
        )

    def decode(self, logits: Sequence[Logits], asked: Sequence[Any], labels: Sequence[str]) -> list[Any]:
        """Per row {"labels": [those given], "scores": {label: probability}}."""
        return [
            {
                "labels": self.label_names(cell),
                "scores": {name: float(value) for name, value in zip(labels, row, strict=True)},
            }
            for cell, row in zip(*self.answers(logits, labels)[::2], strict=True)
        ]


def written(names: Sequence[str]) -> str:
    """Names as a label cell of a snapshot: sorted, each once, as JSON."""
    return json.dumps(sorted(set(names)), ensure_ascii=False)


def probabilities(logits: Sequence[Logits]) -> Floats:
    """[rows, labels], each by itself."""
    values = np.stack(logits).astype(np.float64)
    # Both branches of the sigmoid, so that no exponential overflows.
    powers = np.exp(-np.abs(values))
    return np.where(values >= 0, 1 / (1 + powers), powers / (1 + powers))
