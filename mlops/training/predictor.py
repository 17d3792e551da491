"""Logits of a torch model, prepared and batched exactly as the serving runtime does it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mlops.serving.inputs import Arrays, Encoder, Floats, Ids, in_batches
from mlops.serving.package import Package, read_package
from mlops.training.device import Device

BATCH_TOKENS = 4096


def forward_pass(model: Any, device: Device) -> Callable[[Arrays], Floats]:
    """A function from model inputs to logits [batch, labels] float32."""
    import torch

    def forward(arrays: Arrays) -> Floats:
        tensors = {name: torch.from_numpy(array).to(device.name) for name, array in arrays.items()}
        with torch.inference_mode(), device.autocast():
            logits: Floats = model(**tensors).logits.float().cpu().numpy()
        return logits

    return forward


def logits_of(model: Any, ids: Sequence[Ids], package: Package, device: Device) -> Floats:
    """[rows, labels] in the order of the token ids; the model is in eval mode afterwards."""
    model.eval()
    return in_batches(ids, package, BATCH_TOKENS, forward_pass(model, device))


class TorchPredictor:
    """A torch model folder that answers like `mlops.serving.runtime.Runtime`; always in fp32."""

    def __init__(self, folder: Path) -> None:
        from mlops.tasks import get
        from mlops.training.device import pick
        from mlops.training.models import load_model

        self._package = read_package(folder)
        self.labels = self._package.labels
        self._encoder = Encoder(folder, self._package)
        self._device = Device(pick().name, bf16=False)
        self._model = load_model(folder, get(self._package.task), self.labels).to(self._device.name)

    def logits(self, texts: Sequence[str]) -> Floats:
        """[texts, labels] float32 in the order of the texts."""
        return logits_of(self._model, self._encoder.encode(texts), self._package, self._device)
