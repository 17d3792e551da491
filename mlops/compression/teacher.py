"""What the fine-tuned model makes of each row: computed once where memory allows it, else batch by batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mlops.tasks.base import Examples
from mlops.training.batches import by_length
from mlops.training.losses import tensors
from mlops.training.setting import Setting

_BYTES = 1 << 30  # of hidden states that are kept


class Teacher:
    """Logits and hidden states of a model in eval mode, by row.

    places: layers, from 0, whose states are asked for; none keeps the logits alone. Logits are always kept, states where
    all of them, in half precision, take up to `most` bytes; else the model computes both anew for every batch.
    """

    def __init__(self, model: Any, rows: Examples, setting: Setting, places: Sequence[int], most: int = _BYTES) -> None:
        self._model = model.to(setting.device.name).eval().requires_grad_(False)
        self._setting, self._places = setting, places
        width = int(getattr(model.config, "hidden_size", 0))
        self.kept = sum(rows.lengths) * width * len(places) * 2 <= most
        self._logits: list[Any] = []
        self._states: list[Any] = []
        if self.kept:
            self._remember(rows)

    def answers(self, chosen: Sequence[int], inputs: dict[str, Any]) -> tuple[Any, list[Any]]:
        """(logits, states by place) of a batch: float32 [batch, labels] or [batch, length, labels], and [batch, length,
        width] each. What stands at padding is of no meaning."""
        import torch

        if not self.kept:
            return self._asked(inputs)
        where = self._setting.device.name
        logits = [self._logits[row] for row in chosen]
        padded = torch.nn.utils.rnn.pad_sequence
        answers = torch.stack(logits) if logits[0].ndim == 1 else padded(logits, batch_first=True)
        if not self._places:
            return answers.to(where), []
        states = padded([self._states[row] for row in chosen], batch_first=True).to(where).float()
        return answers.to(where), list(states.unbind(dim=2))

    def _asked(self, inputs: dict[str, Any]) -> tuple[Any, list[Any]]:
        import torch

        with torch.no_grad(), self._setting.device.autocast():
            found = self._model(**inputs, output_hidden_states=bool(self._places))
        return found.logits.float(), [found.hidden_states[place + 1].float() for place in self._places]

    def _remember(self, rows: Examples) -> None:
        import torch

        self._logits, self._states = [None] * len(rows), [None] * len(rows)
        for batch in by_length(rows.lengths, self._setting.train.batch_tokens):
            inputs, _ = tensors(rows, batch, self._setting)
            logits, states = self._asked(inputs)
            together = torch.stack(states, dim=2).half().cpu() if states else None  # [batch, length, places, width]
            for position, row in enumerate(batch):
                size = max(1, rows.lengths[row])  # of a row without tokens one padding token is read
                values = logits[position].cpu()
                self._logits[row] = (values[:size] if values.ndim == 2 else values).clone()
                if together is not None:
                    self._states[row] = together[position, :size].clone()
