"""What a kind of ML work has to say about itself; torch is loaded by the methods that need it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.int32]
Logits = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]
Item = str | tuple[str, str] | list[str]  # what a model is asked: a text, a pair of texts, the tokens of a text
Kind = Literal["text", "pair", "tokens"]

IGNORED = -100  # a target that is not learned: torch's own number for it


@dataclass(frozen=True)
class Examples:
    """What a split teaches, as sequences that a model reads.

    row_ids: the row of each sequence; a document longer than the model's window is several. input_ids: token ids, special
    ones included. targets: what to learn per sequence. seconds: where the second text of a pair begins, none where there
    are no pairs. groups: what rows are ranked within, by sequence. places: per sequence (row number, its first token that
    this sequence answers for), for tasks that answer by token.
    """

    row_ids: list[str]
    input_ids: list[Ids]
    targets: list[Any]
    seconds: list[int] | None = None
    groups: list[str] | None = None
    places: list[tuple[int, int]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.row_ids)

    @property
    def lengths(self) -> list[int]:
        """Tokens per sequence."""
        return [len(ids) for ids in self.input_ids]


@dataclass(frozen=True)
class Rules:
    """How losses are counted. weights: one per label of the model, none is 1 each. smoothing: share of a target's weight
    that is spread over all labels (Szegedy et al., "Rethinking the Inception Architecture", 2016). hard: the labels alone are
    right, whatever a task makes of their neighbours."""

    weights: Sequence[float] | None = None
    smoothing: float = 0.0
    hard: bool = False


class Answers(NamedTuple):
    """A model's answers to n rows. predicted: as labels are written in a snapshot. scores [n]: how sure each is, or what a
    ranking goes by. chances: per row the probabilities behind it, one per output, or for tokens that of each one's tag."""

    predicted: list[str]
    scores: Floats
    chances: list[Any]


class Judged(NamedTuple):
    """Rows with their truth and one model's answers: labels and predicted as a snapshot writes them, scores [n], groups."""

    labels: Sequence[str]
    predicted: Sequence[str]
    scores: Sequence[float]
    groups: Sequence[str]


class Confidences(NamedTuple):
    """Of m answers: how sure the model is of each, whether it is right, and the row (0 to n - 1) that it belongs to."""

    sure: Floats
    right: npt.NDArray[np.bool_]
    row: npt.NDArray[np.int64]


class Task(Protocol):
    """Stateless; one object per task serves all models.

    key: its name in a pipeline file, with the target behind a colon where that is not the plain one. architecture: the
    transformers class of such models. kind: what an item is. one_label: whether a row has exactly one.
    """

    key: str
    architecture: str
    kind: Kind
    one_label: bool

    def label_names(self, label: str) -> Sequence[str]:
        """The names in one label cell of a snapshot: for a sentence's tags its kinds of entities."""
        ...

    def outputs(self, names: Sequence[str]) -> tuple[str, ...]:
        """What the model's outputs stand for, in their order, from the names in a snapshot."""
        ...

    def item(self, text: str) -> Item:
        """A snapshot's text as the model is asked it."""
        ...

    def asked(self, value: Any) -> Item:
        """What a user asks as the model is asked it; UserError for what this task cannot be asked."""
        ...

    def read(self, folder: Path, labels: Sequence[str]) -> Examples:
        """A prepared split; UserError names the rows whose labels are not among `labels`."""
        ...

    def collate(self, targets: Sequence[Any], longest: int) -> npt.NDArray[Any]:
        """The targets of one batch as an array [batch, …]. longest: tokens of the batch's longest sequence."""
        ...

    def losses(self, logits: Any, targets: Any, rules: Rules) -> tuple[Any, Any]:
        """(sums, weights), each [batch], from torch tensors: a batch's loss is the sum of sums over that of weights."""
        ...

    def counts(self, examples: Examples, labels: Sequence[str]) -> npt.NDArray[np.int64]:
        """How often each output [labels] is a target: what class weights are made from."""
        ...

    def metrics(self, logits: Sequence[Logits], examples: Examples, labels: Sequence[str]) -> dict[str, float]:
        """Values of the task's metrics, without intervals, as the epochs are compared by. logits: one array per sequence."""
        ...

    def metric_names(self, labels: Sequence[str]) -> list[str]:
        """What `gate.metric` may be."""
        ...

    def answers(self, logits: Sequence[Logits], labels: Sequence[str]) -> Answers:
        """Per row what the model says; logits: one array per row, for tokens [tokens, labels]."""
        ...

    def statistics(self, rows: Judged, labels: Sequence[str]) -> Floats:
        """What the metrics need of each sampling unit, so that it can be summed: [units, k]."""
        ...

    def values(self, totals: Floats, labels: Sequence[str]) -> Mapping[str, Floats]:
        """The metrics [resamples] of summed statistics [resamples, k]."""
        ...

    def constant(self, rows: Judged) -> Judged:
        """The same rows as answered by a model that has learned nothing but which answer is frequent."""
        ...

    def right(self, rows: Judged) -> Judged:
        """The same rows as answered without a mistake."""
        ...

    def wrong(self, rows: Judged, labels: Sequence[str]) -> Judged:
        """The same rows as answered as badly as can be: what one row may cost a model."""
        ...

    def confidences(self, rows: Judged, chances: Sequence[Any], labels: Sequence[str]) -> Confidences | None:
        """What calibration looks at, of each answer that a row is made of; none where scores are no probabilities."""
        ...

    def decode(self, logits: Sequence[Logits], asked: Sequence[Any], labels: Sequence[str]) -> list[Any]:
        """Predictions as the server answers them."""
        ...
