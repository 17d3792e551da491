"""One label per pair of texts, and the order of candidates for a text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mlops.errors import UserError
from mlops.statistics.ranking import NAMES, ranking_scores, ranking_units
from mlops.tasks.base import Answers, Confidences, Floats, Item, Judged, Kind, Logits
from mlops.tasks.text_classification import TextClassification, probabilities

HIGHEST = 100.0  # no grade reaches it
SEPARATOR = "\u241e"  # between the texts of a pair, in a snapshot


class TextPairClassification(TextClassification):
    """A snapshot's text is "first ␞ second"."""

    key = "text-pair-classification"
    kind: Kind = "pair"

    def item(self, text: str) -> Item:
        first, _, second = text.partition(SEPARATOR)
        return first.strip(), second.strip()

    def asked(self, value: Any) -> Item:
        if isinstance(value, Mapping) and set(value) == {"text_a", "text_b"}:
            value = (value["text_a"], value["text_b"])
        if not isinstance(value, list | tuple) or len(value) != 2 or not all(isinstance(each, str) for each in value):
            raise UserError(f'found {str(value)[:100]!r}; {self.key} is asked {{"text_a": …, "text_b": …}}')
        return value[0], value[1]


class TextRanking(TextPairClassification):
    """Labels are grades, 0 is irrelevant; candidates are ordered by the grade that the model expects."""

    key = "text-ranking"

    def outputs(self, names: Sequence[str]) -> tuple[str, ...]:
        try:
            grades = {name: float(name) for name in names}
        except ValueError:
            grades = {"": -1.0}
        if not all(0 <= grade < HIGHEST for grade in grades.values()):
            raise UserError(
                f"found the labels {', '.join(names)}; {self.key} needs grades: 0 for irrelevant, 1 and above"
            )
        return tuple(sorted(names, key=lambda name: grades[name]))

    def metric_names(self, labels: Sequence[str]) -> list[str]:
        return list(NAMES)

    def answers(self, logits: Sequence[Logits], labels: Sequence[str]) -> Answers:
        """As for a pair; scores are expected grades."""
        answers = super().answers(logits, labels)
        return answers._replace(scores=self._grades(logits, labels))

    def _grades(self, logits: Sequence[Logits], labels: Sequence[str]) -> Floats:
        if not len(logits):
            return np.zeros(0)
        return np.asarray(probabilities(np.stack(logits)) @ np.array([float(label) for label in labels]))

    def statistics(self, rows: Judged, labels: Sequence[str]) -> Floats:
        return ranking_units([float(label) for label in rows.labels], rows.scores, rows.groups)

    def values(self, totals: Floats, labels: Sequence[str]) -> Mapping[str, Floats]:
        return ranking_scores(totals)

    def constant(self, rows: Judged) -> Judged:
        """An order by chance, the same every time."""
        chance = np.random.default_rng(0).random(len(rows.labels))
        return super().constant(rows)._replace(scores=chance.tolist(), predicted=rows.labels)

    def right(self, rows: Judged) -> Judged:
        """Scores are the grades themselves."""
        return super().right(rows)._replace(scores=[float(label) for label in rows.labels])

    def wrong(self, rows: Judged, labels: Sequence[str]) -> Judged:
        """The worst candidate first."""
        return super().wrong(rows, labels)._replace(scores=[-float(label) for label in rows.labels])

    def confidences(self, rows: Judged, chances: Sequence[Any], labels: Sequence[str]) -> Confidences | None:
        """None: scores are expected grades."""
        return None

    def decode(self, logits: Sequence[Logits], asked: Sequence[Any], labels: Sequence[str]) -> list[Any]:
        """Per pair {"score"}: higher is more relevant; order the candidates of one text by it."""
        return [{"score": float(score)} for score in self._grades(logits, labels)]
