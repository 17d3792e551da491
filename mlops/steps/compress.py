"""compress: the fine-tuned model as ONNX files, fp32 with a fused graph and int8."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

from mlops.config import PipelineConfig
from mlops.errors import UserError
from mlops.serving.package import MODEL, TOKENIZER, Package, read_package, write_package
from mlops.store import open_store
from mlops.tasks import get
from mlops.types import ModelArtifact, Snapshot, Variants

log = logging.getLogger("evergreen")


def compress(config: PipelineConfig, model: ModelArtifact, snapshot: Snapshot) -> Variants:
    """One ONNX package (model.onnx, tokenizer.json, package.json) per entry of compress.variants, in their order.

    Raises UserError when the model's architecture cannot be written as ONNX.
    """
    store = open_store()
    source = store.fetch(model.files)
    package = read_package(source)
    models = []
    with store.workspace() as folder:
        _write_fp32(source, folder / "fp32", package)
        for variant in config.compress.variants:
            if variant == "int8":
                _write_int8(folder / "fp32", folder / "int8", package)
            files = store.put(folder / variant, "model")
            log.info("compress: %s, %.1f MB", variant, files.size_bytes / 1e6)
            change = {"files": files, "variant": variant, "parent_sha256": model.files.sha256}
            models.append(model.model_copy(update=change))
    return Variants(models=tuple(models))


def _write_fp32(source: Path, target: Path, package: Package) -> None:
    from mlops.compression.export import export
    from mlops.training.models import load_model

    target.mkdir()
    torch_model = load_model(source, get(package.task), package.labels, attention="eager").eval()
    try:
        export(torch_model, target / MODEL, package.inputs)
    except Exception as error:  # torch's exporter raises a kind per operator
        kind = type(torch_model).__name__
        raise UserError(f"{kind} cannot be exported to ONNX: {type(error).__name__}: {error}") from error
    _finish(source, target, package, "fp32")


def _write_int8(source: Path, target: Path, package: Package) -> None:
    from mlops.compression.quantize import quantize

    target.mkdir()
    quantize(source / MODEL, target / MODEL)
    _finish(source, target, package, "int8")


def _finish(source: Path, target: Path, package: Package, variant: str) -> None:
    shutil.copyfile(source / TOKENIZER, target / TOKENIZER)
    write_package(target, package.model_copy(update={"variant": variant}))
