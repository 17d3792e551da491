"""One label per text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mlops.errors import UserError
from mlops.statistics.classification import counts, scores
from mlops.tasks.base import Examples, token_ids


class TextClassification:
    """Targets are positions in the labels; logits are [rows, labels]."""

    name = "text-classification"
    architecture = "AutoModelForSequenceClassification"
    columns = ("row_id", "input_ids", "label")

    def read(self, folder: Path, labels: Sequence[str]) -> Examples:
        """A prepared split; UserError names the rows whose label is not among `labels`."""
        import pyarrow.parquet as pq

        with pq.ParquetFile(folder / "rows.parquet") as file:
            table = file.read(columns=list(self.columns))
        row_ids, names = table["row_id"].to_pylist(), table["label"].to_pylist()
        place = {label: position for position, label in enumerate(labels)}
        strange = [row for row, label in zip(row_ids, names, strict=True) if label not in place]
        if strange:
            raise UserError(
                f"{len(strange)} rows have labels that are not among {', '.join(labels)}; such as {', '.join(strange[:5])}"
            )
        return Examples(row_ids, token_ids(table["input_ids"]), [place[label] for label in names])

    def collate(self, targets: Sequence[Any]) -> npt.NDArray[np.int64]:
        return np.asarray(targets, dtype=np.int64)

    def losses(self, logits: Any, targets: Any) -> Any:
        """Cross-entropy per row [batch]."""
        from torch.nn.functional import cross_entropy

        # In fp32 whatever the precision of the forward pass: half precision loses small probabilities.
        return cross_entropy(logits.float(), targets, reduction="none")

    def metrics(
        self, logits: npt.NDArray[np.float32], targets: Sequence[Any], labels: Sequence[str]
    ) -> dict[str, float]:
        truth, predicted = np.asarray(targets, dtype=np.int64), logits.argmax(axis=1).astype(np.int64)
        totals = counts(truth, predicted, len(labels)).sum(axis=0, keepdims=True)
        return {name: float(value[0]) for name, value in scores(totals, len(truth), labels).items()}

    def metric_names(self, labels: Sequence[str]) -> list[str]:
        return ["accuracy", "macro_f1", "weighted_f1", *(f"f1/{label}" for label in labels)]

    def decode(self, logits: npt.NDArray[np.float32], labels: Sequence[str]) -> list[dict[str, Any]]:
        """Per row {"label", "score", "scores": {label: probability}}."""
        answers = []
        for row in probabilities(logits):
            best = int(row.argmax())
            every = {label: float(value) for label, value in zip(labels, row, strict=True)}
            answers.append({"label": labels[best], "score": float(row[best]), "scores": every})
        return answers


def probabilities(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Softmax over the labels: [rows, labels], every row adds up to 1."""
    shifted = logits.astype(np.float64)
    shifted -= shifted.max(axis=1, keepdims=True)
    powers = np.exp(shifted)
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))
