"""One label per text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mlops.errors import UserError
from mlops.statistics.bootstrap import point
from mlops.statistics.classification import counts, scores
from mlops.tasks.base import Answers, Confidences, Examples, Floats, Item, Judged, Kind, Logits, Rules
from mlops.tasks.prepared import columns_of, label_places, positions


class TextClassification:
    """Targets are positions in the labels; logits are [labels] per row."""

    key = "text-classification"
    architecture = "AutoModelForSequenceClassification"
    kind: Kind = "text"
    one_label = True

    def label_names(self, label: str) -> Sequence[str]:
        return (label,)

    def outputs(self, names: Sequence[str]) -> tuple[str, ...]:
        return tuple(names)

    def item(self, text: str) -> Item:
        return text

    def asked(self, value: Any) -> Item:
        if not isinstance(value, str):
            raise UserError(f"found {type(value).__name__} {str(value)[:100]!r}; {self.key} is asked texts")
        return value

    def read(self, folder: Path, labels: Sequence[str]) -> Examples:
        columns = columns_of(folder)
        targets = label_places(columns.row_ids, columns.labels, labels)
        return Examples(columns.row_ids, columns.input_ids, targets, columns.seconds, columns.groups)

    def collate(self, targets: Sequence[Any], longest: int) -> npt.NDArray[Any]:
        """int64 [batch]."""
        return np.asarray(targets, dtype=np.int64)

    def losses(self, logits: Any, targets: Any, rules: Rules) -> tuple[Any, Any]:
        """Cross-entropy; a row's weight is that of its label."""
        import torch
        from torch.nn.functional import cross_entropy

        # In fp32 whatever the precision of the forward pass: half precision loses small probabilities.
        weights = None if rules.weights is None else torch.tensor(rules.weights, device=logits.device)
        sums = cross_entropy(logits.float(), targets, weights, reduction="none", label_smoothing=rules.smoothing)
        return sums, torch.ones_like(sums) if weights is None else weights[targets]

    def counts(self, examples: Examples, labels: Sequence[str]) -> npt.NDArray[np.int64]:
        return np.bincount(np.asarray(examples.targets, dtype=np.int64), minlength=len(labels))

    def metrics(self, logits: Sequence[Logits], examples: Examples, labels: Sequence[str]) -> dict[str, float]:
        answers = self.answers(logits, labels)
        judged = Judged(
            self.cells(examples, labels), answers.predicted, list(answers.scores), examples.groups or examples.row_ids
        )
        return point(self.statistics(judged, labels), lambda totals: self.values(totals, labels))

    def cells(self, examples: Examples, labels: Sequence[str]) -> list[str]:
        """The targets as a snapshot writes them."""
        return [labels[target] for target in examples.targets]

    def metric_names(self, labels: Sequence[str]) -> list[str]:
        return ["accuracy", "macro_f1", "weighted_f1", *(f"f1/{label}" for label in labels)]

    def answers(self, logits: Sequence[Logits], labels: Sequence[str]) -> Answers:
        """The most probable label; chances: {label: probability}."""
        if not len(logits):
            return Answers([], np.zeros(0), [])
        chances = probabilities(np.stack(logits))
        best = chances.argmax(axis=1)
        return Answers([labels[place] for place in best], chances.max(axis=1), list(chances))

    def statistics(self, rows: Judged, labels: Sequence[str]) -> Floats:
        return counts(positions(rows.labels, labels), positions(rows.predicted, labels), len(labels))

    def values(self, totals: Floats, labels: Sequence[str]) -> Mapping[str, Floats]:
        return scores(totals, labels)

    def constant(self, rows: Judged) -> Judged:
        """Always the most frequent label of these rows."""
        values, sizes = np.unique(np.array(rows.labels), return_counts=True)
        return rows._replace(predicted=[str(values[sizes.argmax()])] * len(rows.labels))

    def right(self, rows: Judged) -> Judged:
        return rows._replace(predicted=list(rows.labels))

    def wrong(self, rows: Judged, labels: Sequence[str]) -> Judged:
        """The next label of the list in each row's place."""
        after = dict(zip(labels, [*labels[1:], *labels[:1]], strict=True))
        return rows._replace(predicted=[after.get(label, labels[0]) for label in rows.labels])

    def confidences(self, rows: Judged, chances: Sequence[Any], labels: Sequence[str]) -> Confidences | None:
        """One answer a row, as sure as its label is probable."""
        found = np.array(rows.labels, dtype=object) == np.array(rows.predicted, dtype=object)
        return Confidences(np.asarray(rows.scores, dtype=np.float64), found, np.arange(len(rows.labels)))

    def decode(self, logits: Sequence[Logits], asked: Sequence[Any], labels: Sequence[str]) -> list[Any]:
        """Per row {"label", "score", "scores": {label: probability}}."""
        answers = self.answers(logits, labels)
        return [
            {
                "label": label,
                "score": float(score),
                "scores": {name: float(value) for name, value in zip(labels, row, strict=True)},
            }
            for label, score, row in zip(answers.predicted, answers.scores, answers.chances, strict=True)
        ]


def probabilities(logits: Logits) -> Floats:
    """Softmax over the last axis, every row adds up to 1."""
    shifted = logits.astype(np.float64)
    shifted -= shifted.max(axis=-1, keepdims=True)
    powers = np.exp(shifted)
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))
