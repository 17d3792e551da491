"""Logits of a torch model, prepared and batched exactly as the serving runtime does it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mlops.serving.inputs import Arrays, Encoder, by_item, in_batches, tempered
from mlops.serving.package import Package, read_package
from mlops.tasks import get
from mlops.tasks.base import Ids, Item, Logits
from mlops.training.device import Device

BATCH_TOKENS = 4096


def forward_pass(model: Any, device: Device) -> Callable[[Arrays], Logits]:
    """A function from model inputs to logits float32 [batch, labels] or [batch, length, labels]."""
    import torch

    def forward(arrays: Arrays) -> Logits:
        tensors = {name: torch.from_numpy(array).to(device.name) for name, array in arrays.items()}
        with torch.inference_mode(), device.autocast():
            logits: Logits = model(**tensors).logits.float().cpu().numpy()
        return logits

    return forward


def logits_of(
    model: Any, ids: Sequence[Ids], package: Package, device: Device, seconds: Sequence[int] | None = None
) -> list[Logits]:
    """One array per sequence, in their order; the model is in eval mode afterwards."""
    model.eval()
    return in_batches(ids, package, BATCH_TOKENS, forward_pass(model, device), seconds)


class TorchPredictor:
    """A torch model folder that answers like `mlops.serving.runtime.Runtime`; always in fp32."""

    def __init__(self, folder: Path) -> None:
        from mlops.training.device import pick
        from mlops.training.models import load_model

        self._package = read_package(folder)
        self.labels = self._package.labels
        self.temperature = self._package.temperature
        task = get(self._package.task)
        self._encoder = Encoder(folder, self._package, task)
        self._device = Device(pick().name, bf16=False)
        self._model = load_model(folder, task, self.labels).to(self._device.name)

    def logits(self, items: Sequence[Item]) -> list[Logits]:
        """One array per item, in their order: [labels], or [tokens, labels] from a model that answers by token."""
        encoded = self._encoder.encode(items)
        found = logits_of(self._model, encoded.input_ids, self._package, self._device, encoded.seconds)
        return tempered(by_item(encoded, found), self._package)
