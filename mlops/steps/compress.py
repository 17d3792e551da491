"""compress: the cheapest form of the fine-tuned model that keeps its quality, as an ONNX package."""

from __future__ import annotations

from mlops.compression.search import listed, opened, search
from mlops.config import PipelineConfig
from mlops.store import open_store
from mlops.types import ModelArtifact, Snapshot, Variants


def compress(config: PipelineConfig, model: ModelArtifact, snapshot: Snapshot) -> Variants:
    """The forms that are listed; with `auto` the file that is to ship, fp32 to fall back on, and all that was tried.

    Each is a package (model.onnx, tokenizer.json, package.json). Raises UserError when the model's architecture cannot be
    written as ONNX.
    """
    with open_store().workspace() as folder:
        task = opened(config, model, snapshot, folder)
        return search(task) if config.compress.searches else listed(task)
