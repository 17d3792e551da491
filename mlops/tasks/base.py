"""What a kind of ML work has to say about itself; torch is loaded by the methods that need it."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Examples:
    """The rows of one prepared split. input_ids: token ids per row, special ones included. targets: what to learn per row."""

    row_ids: list[str]
    input_ids: list[npt.NDArray[np.int32]]
    targets: list[Any]

    def __len__(self) -> int:
        return len(self.row_ids)

    @property
    def lengths(self) -> list[int]:
        """Tokens per row."""
        return [len(ids) for ids in self.input_ids]


class Task(Protocol):
    """Stateless; one object per task serves all models."""

    name: str
    architecture: str  # the transformers class that holds such models

    def read(self, folder: Path, labels: Sequence[str]) -> Examples:
        """A prepared split; UserError names the rows whose labels are not among `labels`."""
        ...

    def collate(self, targets: Sequence[Any]) -> npt.NDArray[np.int64]:
        """The targets of one batch as an array."""
        ...

    def losses(self, logits: Any, targets: Any) -> Any:
        """Loss per row [batch] from torch tensors."""
        ...

    def metrics(
        self, logits: npt.NDArray[np.float32], targets: Sequence[Any], labels: Sequence[str]
    ) -> dict[str, float]:
        """Values of the task's metrics, without intervals, as the epochs are compared by."""
        ...

    def metric_names(self, labels: Sequence[str]) -> list[str]:
        """What `gate.metric` may be."""
        ...

    def decode(self, logits: npt.NDArray[np.float32], labels: Sequence[str]) -> list[dict[str, Any]]:
        """Predictions as the server answers them."""
        ...


def token_ids(column: Any) -> list[npt.NDArray[np.int32]]:
    """The rows of a pyarrow list<int32> column as views on one array: a million rows cost little more than their ids."""
    lists = column.combine_chunks()
    flat, bounds = lists.values.to_numpy(), lists.offsets.to_numpy()
    return [flat[start:end] for start, end in itertools.pairwise(bounds)]
