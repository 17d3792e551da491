"""Makes the package folder of a recipe: the network's shape first, then the precision of its file."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mlops.compression.recipes import TABLES, Recipe
from mlops.compression.tables import MIN_TABLE
from mlops.config import PipelineConfig
from mlops.errors import UserError
from mlops.serving.package import MODEL, TOKENIZER, Package, read_package, write_package
from mlops.tasks import get
from mlops.tasks.base import Item

_CALIBRATION_ROWS = 256
_NEVER = 1 << 62  # a size that no table has


class Builder:
    """Packages below `folder`; what several recipes need is made once.

    source: the fine-tuned torch model's folder. rows: train and validation folders of the snapshot, for shapes that are
    trained. items: validation rows, by which ranges of activations are found.
    """

    def __init__(
        self, config: PipelineConfig, source: Path, folder: Path, rows: dict[str, Path], items: Sequence[Item]
    ):
        self._config, self._source, self._folder = config, source, folder
        self._rows, self._items = rows, items
        self._shapes: dict[str, Path] = {}

    def fp32(self, shape: str = "full", share: float = 1.0) -> Path:
        """The fp32 package of a shape. Raises UserError when the architecture cannot be written as ONNX."""
        name = f"{shape}-{share:g}"
        if name not in self._shapes:
            torch_folder = self._source if shape == "full" else self._trained(shape, share)
            target = self._folder / f"fp32-{name}"
            _export(torch_folder, target)
            self._shapes[name] = target
        return self._shapes[name]

    def make(self, recipe: Recipe, number: int) -> Path:
        """The recipe's package, with its name as the variant."""
        source, target = self.fp32(recipe.shape, recipe.share), self._folder / f"{number:02}-{recipe.name}"
        target.mkdir()
        self._write(recipe, source, target / MODEL)
        package = read_package(source)
        shutil.copyfile(source / TOKENIZER, target / TOKENIZER)
        write_package(target, package.model_copy(update={"variant": recipe.name}))
        return target

    def _write(self, recipe: Recipe, source: Path, path: Path) -> None:
        keep = tuple(name for name in recipe.keep if name != TABLES)
        tables = _NEVER if TABLES in recipe.keep else MIN_TABLE
        if recipe.precision == "int8":
            from mlops.compression.quantize import quantize

            quantize(source / MODEL, path, keep=keep, min_table=tables)
        elif recipe.precision == "int8-static":
            from mlops.compression.static import quantize_static

            batches = list(calibration(source, self._items))
            quantize_static(source / MODEL, path, batches, recipe.calibration, keep, tables)
        elif recipe.precision in ("w8", "w4"):
            from mlops.compression.weights import quantize_weights

            quantize_weights(source / MODEL, path, 8 if recipe.precision == "w8" else 4, keep=keep, min_table=tables)
        elif recipe.precision == "fp16":
            from mlops.compression.half import to_half

            to_half(source / MODEL, path)
        else:
            shutil.copyfile(source / MODEL, path)

    def _trained(self, shape: str, share: float) -> Path:
        from mlops.compression.students import student

        config, target = self._config, self._folder / f"torch-{shape}-{share:g}"
        package = read_package(self._source)
        task = get(package.task)
        train, validation = (task.read(self._rows[split], package.labels) for split in ("train", "validation"))
        student(
            self._source,
            target,
            shape,
            share,
            train,
            validation,
            config.train,
            config.gate.metric,
            config.compress.epochs,
            config.train.seed,
        )
        return target


def _export(source: Path, target: Path) -> None:
    from mlops.compression.export import export
    from mlops.training.models import load_model

    package = read_package(source)
    target.mkdir()
    model = load_model(source, get(package.task), package.labels, attention="eager").eval()
    try:
        export(model, target / MODEL, package.inputs)
    except Exception as error:  # torch's exporter raises a kind per operator
        kind = type(model).__name__
        raise UserError(f"{kind} cannot be exported to ONNX: {type(error).__name__}: {error}") from error
    shutil.copyfile(source / TOKENIZER, target / TOKENIZER)
    write_package(target, package.model_copy(update={"variant": "fp32"}))


def calibration(folder: Path, items: Sequence[Item], rows: int = _CALIBRATION_ROWS) -> Iterator[dict[str, Any]]:
    """Model inputs of some items spread over all, in batches of rows of similar length."""
    from mlops.serving.inputs import Encoder, in_batches

    package: Package = read_package(folder)
    some = items[:: max(1, len(items) // rows)][:rows]
    encoded = Encoder(folder, package, get(package.task)).encode(some)
    found: list[dict[str, Any]] = []

    def keep(arrays: Any) -> Any:
        found.append(dict(arrays))
        return np.zeros((len(arrays["input_ids"]), 1))

    in_batches(encoded.input_ids, package, 2048, keep, encoded.seconds)
    yield from found
