"""A tag per token: names, places, products in running text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mlops.data.tags import entities
from mlops.errors import UserError
from mlops.statistics.bootstrap import point
from mlops.statistics.entities import entity_counts, entity_scores
from mlops.tasks.base import IGNORED, Answers, Confidences, Examples, Floats, Item, Judged, Kind, Logits, Rules
from mlops.tasks.paths import best_path
from mlops.tasks.prepared import columns_of, refuse
from mlops.tasks.splitting import words, written
from mlops.tasks.text_classification import probabilities
from mlops.tasks.windows import Windowed, split


class TokenClassification:
    """A snapshot's text is tokens parted by one blank, its label their tags in strict IOB2, parted likewise.

    The first piece of each token is labelled; its other pieces, the special ones and padding are not learned and not
    asked. Logits are [tokens, tags] per row.
    """

    key = "token-classification"
    architecture = "AutoModelForTokenClassification"
    kind: Kind = "tokens"
    one_label = False

    def label_names(self, label: str) -> Sequence[str]:
        return sorted({tag.partition("-")[2] for tag in label.split(" ")} - {""})

    def outputs(self, names: Sequence[str]) -> tuple[str, ...]:
        """O, and B- and I- of every kind of entity."""
        return ("O", *(f"{prefix}-{name}" for name in names for prefix in "BI"))

    def item(self, text: str) -> Item:
        return text.split(" ")

    def asked(self, value: Any) -> Item:
        if isinstance(value, str):
            return [value[start:end] for start, end in words(value)]
        if isinstance(value, list) and all(isinstance(token, str) and token for token in value):
            return value
        raise UserError(f"found {str(value)[:100]!r}; {self.key} is asked texts, or lists of tokens")

    def read(self, folder: Path, labels: Sequence[str]) -> Examples:
        columns = columns_of(folder)
        if columns.bounds is None or columns.starts is None:
            raise UserError(f"{folder} was not prepared for {self.key}: it has no windows; prepare the data again")
        place = {label: position for position, label in enumerate(labels)}
        found = Examples([], [], [])
        strange = []
        rows = zip(columns.row_ids, columns.labels, columns.input_ids, columns.bounds, columns.starts, strict=True)
        for number, (row_id, label, ids, bounds, starts) in enumerate(rows):
            tags = label.split(" ")
            if not place.keys() >= set(tags):
                strange.append(row_id)
                continue
            codes = np.array([place[tag] for tag in tags], dtype=np.int64)
            first = 0
            for window, places in zip(*split(Windowed(ids, bounds, starts)), strict=True):
                target = np.full(len(window), IGNORED, dtype=np.int64)
                target[places] = codes[first : first + len(places)]
                found.row_ids.append(row_id)
                found.input_ids.append(window)
                found.targets.append(target)
                found.places.append((number, first))
                first += len(places)
        refuse(strange, labels)
        return found

    def collate(self, targets: Sequence[Any], longest: int) -> npt.NDArray[Any]:
        """int64 [batch, longest]."""
        out = np.full((len(targets), longest), IGNORED, dtype=np.int64)
        for row, target in enumerate(targets):
            out[row, : len(target)] = target
        return out

    def losses(self, logits: Any, targets: Any, rules: Rules) -> tuple[Any, Any]:
        """Cross-entropy over the labelled tokens of a row; a token's weight is that of its tag."""
        import torch
        from torch.nn.functional import cross_entropy

        weights = None if rules.weights is None else torch.tensor(rules.weights, device=logits.device)
        sums = cross_entropy(
            logits.float().transpose(1, 2),
            targets,
            weights,
            ignore_index=IGNORED,
            reduction="none",
            label_smoothing=rules.smoothing,
        )
        learned = targets != IGNORED
        each = learned.float() if weights is None else weights[targets.clamp(min=0)] * learned
        return sums.sum(dim=1), each.sum(dim=1)

    def counts(self, examples: Examples, labels: Sequence[str]) -> npt.NDArray[np.int64]:
        flat = np.concatenate(examples.targets) if examples.targets else np.zeros(0, dtype=np.int64)
        return np.bincount(flat[flat != IGNORED], minlength=len(labels))

    def metrics(self, logits: Sequence[Logits], examples: Examples, labels: Sequence[str]) -> dict[str, float]:
        truth: dict[int, list[Any]] = {}
        found: dict[int, list[Any]] = {}
        for (row, _), target, values in zip(examples.places, examples.targets, logits, strict=True):
            asked = np.flatnonzero(target != IGNORED)
            truth.setdefault(row, []).append(target[asked])
            found.setdefault(row, []).append(values[asked])
        rows = sorted(truth)
        tags = [" ".join(labels[place] for place in np.concatenate(truth[row])) for row in rows]
        answers = self.answers([np.concatenate(found[row]) for row in rows], labels)
        judged = Judged(tags, answers.predicted, answers.scores.tolist(), tags)
        return point(self.statistics(judged, labels), lambda totals: self.values(totals, labels))

    def metric_names(self, labels: Sequence[str]) -> list[str]:
        names = ["f1", "precision", "recall"]
        return [*names, "macro_f1", *(f"{name}/{kind}" for name in names for kind in kinds(labels))]

    def answers(self, logits: Sequence[Logits], labels: Sequence[str]) -> Answers:
        """The most probable legal tags of each row; its score is the mean probability of its tags."""
        predicted, scores, sure = [], [], []
        for values in logits:
            chances = probabilities(values)
            path = best_path(chances, labels)
            own = chances[np.arange(len(path)), path]
            predicted.append(" ".join(labels[place] for place in path))
            scores.append(float(own.mean()) if len(own) else 1.0)
            sure.append(own.astype(np.float32))
        return Answers(predicted, np.array(scores), sure)

    def statistics(self, rows: Judged, labels: Sequence[str]) -> Floats:
        truth, found = ([set(entities(cell.split(" "))) for cell in cells] for cells in (rows.labels, rows.predicted))
        return entity_counts(truth, found, kinds(labels))

    def values(self, totals: Floats, labels: Sequence[str]) -> Mapping[str, Floats]:
        return entity_scores(totals, kinds(labels))

    def constant(self, rows: Judged) -> Judged:
        """No entity anywhere."""
        return rows._replace(predicted=[" ".join("O" for _ in cell.split(" ")) for cell in rows.labels])

    def right(self, rows: Judged) -> Judged:
        return rows._replace(predicted=list(rows.labels))

    def wrong(self, rows: Judged, labels: Sequence[str]) -> Judged:
        """Every entity of a row is missed; where there is none, its first token is taken for one."""
        invented = next((label for label in labels if label.startswith("B-")), "O")
        predicted = []
        for cell in rows.labels:
            tags = cell.split(" ")
            plain = ["O"] * len(tags)
            predicted.append(" ".join(plain if tags != plain else [invented, *plain[1:]]))
        return rows._replace(predicted=predicted)

    def confidences(self, rows: Judged, chances: Sequence[Any], labels: Sequence[str]) -> Confidences | None:
        """One answer a token, as sure as its tag is probable."""
        truth, found = ([cell.split(" ") for cell in cells] for cells in (rows.labels, rows.predicted))
        sizes = [min(len(one), len(other), len(sure)) for one, other, sure in zip(truth, found, chances, strict=True)]
        right = [
            one == other
            for row, size in enumerate(sizes)
            for one, other in zip(truth[row][:size], found[row], strict=False)
        ]
        sure = [np.asarray(values[:size], dtype=np.float64) for values, size in zip(chances, sizes, strict=True)]
        rows_of = np.repeat(np.arange(len(sizes)), sizes)
        return Confidences(np.concatenate([np.zeros(0), *sure]), np.array(right, dtype=bool), rows_of)

    def decode(self, logits: Sequence[Logits], asked: Sequence[Any], labels: Sequence[str]) -> list[Any]:
        """Per text its entities [{start, end, type, text, score}]: characters of the text, end exclusive.

        Of a list of tokens the text is what `splitting.written` makes of them. A score is the mean probability of the
        entity's tags.
        """
        answers = self.answers(logits, labels)
        found = []
        for value, cell, sure in zip(asked, answers.predicted, answers.chances, strict=True):
            text, places = (value, words(value)) if isinstance(value, str) else written(value)
            found.append(
                [
                    {
                        "start": places[first][0],
                        "end": places[last - 1][1],
                        "type": kind,
                        "text": text[places[first][0] : places[last - 1][1]],
                        "score": float(sure[first:last].mean()),
                    }
                    for kind, first, last in (entities(cell.split(" ")) if len(sure) else ())
                ]
            )
        return found


def kinds(labels: Sequence[str]) -> list[str]:
    """The kinds of entities behind a model's tags, sorted."""
    return sorted({label.partition("-")[2] for label in labels} - {""})
