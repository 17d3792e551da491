"""One of labels that have an order, such as stars or sentiment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mlops.statistics.ordinal import confusion, ordinal_scores
from mlops.tasks.base import Floats, Judged, Logits, Rules
from mlops.tasks.prepared import positions
from mlops.tasks.text_classification import TextClassification, probabilities

_SHARPNESS = 2.0  # of the targets: a neighbour's share is e^-2 of the right label's


class Ordinal(TextClassification):
    """Like one label per text, but an error of one step costs less than one of three.

    The targets are soft: a label's share falls with its distance from the right one, exp(-2 |i - j|) before they are made
    to add up to 1 (Díaz and Marathe, "Soft Labels for Ordinal Regression", CVPR 2019).
    """

    key = "text-classification:ordinal"

    def losses(self, logits: Any, targets: Any, rules: Rules) -> tuple[Any, Any]:
        """Cross-entropy to the soft targets; a row's weight is that of its label."""
        import torch

        if rules.hard:
            return super().losses(logits, targets, rules)
        size = logits.shape[-1]
        places = torch.arange(size, device=logits.device)
        soft = torch.softmax(-_SHARPNESS * (places[None] - targets[:, None]).abs().float(), dim=-1)
        soft = soft * (1 - rules.smoothing) + rules.smoothing / size
        sums = -(soft * torch.log_softmax(logits.float(), dim=-1)).sum(dim=-1)
        if rules.weights is None:
            return sums, torch.ones_like(sums)
        weights = torch.tensor(rules.weights, device=logits.device)[targets]
        return sums * weights, weights

    def metric_names(self, labels: Sequence[str]) -> list[str]:
        return [*super().metric_names(labels), "qwk", "within_one", "mae"]

    def statistics(self, rows: Judged, labels: Sequence[str]) -> Floats:
        return confusion(positions(rows.labels, labels), positions(rows.predicted, labels), len(labels))

    def values(self, totals: Floats, labels: Sequence[str]) -> Mapping[str, Floats]:
        return ordinal_scores(totals, labels)

    def wrong(self, rows: Judged, labels: Sequence[str]) -> Judged:
        """The end of the order that is further away."""
        place = {label: position for position, label in enumerate(labels)}
        far = [labels[-1 if 2 * place.get(label, 0) < len(labels) - 1 else 0] for label in rows.labels]
        return rows._replace(predicted=far)

    def decode(self, logits: Sequence[Logits], asked: Sequence[Any], labels: Sequence[str]) -> list[Any]:
        """As one label per text, and "position": the expected place in the order, from 0 to labels - 1."""
        answers = super().decode(logits, asked, labels)
        if answers:
            places = probabilities(np.stack(logits)) @ np.arange(len(labels))
            answers = [answer | {"position": float(place)} for answer, place in zip(answers, places, strict=True)]
        return answers
