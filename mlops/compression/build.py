"""Makes the package folder of a recipe: the network's shape first, then the precision of its file."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mlops.compression import known
from mlops.compression.recipes import TABLES, Recipe
from mlops.compression.tables import MIN_TABLE
from mlops.config import PipelineConfig
from mlops.errors import UserError
from mlops.serving.package import MODEL, TOKENIZER, Package, read_package, write_package
from mlops.store import open_store
from mlops.tasks import get
from mlops.tasks.base import Item
from mlops.types import ArtifactRef

_CALIBRATION_ROWS = 256
_NEVER = 1 << 62  # a size that no table has


class OutOfTime(Exception):
    """The time of a search was over while a network was trained."""


class Builder:
    """Packages below `folder`; what several recipes need is made once, and networks are trained once for all searches.

    source: the fine-tuned torch model. splits: train and validation of the snapshot, for shapes that are trained. items:
    validation rows, by which ranges of activations are found. ends: when training stops, by time.monotonic().
    """

    def __init__(
        self,
        config: PipelineConfig,
        source: ArtifactRef,
        folder: Path,
        splits: Mapping[str, ArtifactRef],
        items: Sequence[Item],
        ends: float = math.inf,
    ):
        self._config, self._origin, self._folder = config, source, folder
        self._source = open_store().fetch(source)
        self._splits, self._items, self.ends = splits, items, ends
        self._shapes: dict[str, tuple[Path, dict[str, int]]] = {}

    def fp32(self, shape: str = "full", share: float = 1.0) -> Path:
        """The fp32 package of a shape. Raises UserError when the architecture cannot be written as ONNX, OutOfTime."""
        return self._exported(shape, share)[0]

    def fused(self, shape: str = "full", share: float = 1.0) -> dict[str, int]:
        """How many of which fusions were found in its graph."""
        return self._exported(shape, share)[1]

    def _exported(self, shape: str, share: float) -> tuple[Path, dict[str, int]]:
        name = f"{shape}-{share:g}"
        if name not in self._shapes:
            target = self._folder / f"fp32-{name}"
            fused = _export(self._source if shape == "full" else self._trained(shape, share), target)
            self._shapes[name] = target, fused
        return self._shapes[name]

    def trained_from(self, recipe: Recipe) -> list[Any]:
        """What a recipe's training follows from besides the model; nothing for the whole network."""
        train, epochs = self._config.train.model_dump(mode="json"), self._config.compress.epochs
        splits = [self._splits[split].sha256 for split in ("train", "validation") if split in self._splits]
        return [train, epochs, self._config.gate.metric, *splits] if recipe.trains else []

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
        fp32 = self._smoothed(source, path) if recipe.smooth else source / MODEL
        if recipe.precision == "int8":
            from mlops.compression.quantize import quantize

            quantize(fp32, path, keep=keep, min_table=tables)
        elif recipe.precision == "int8-static":
            from mlops.compression.static import quantize_static

            batches = list(calibration(source, self._items))
            quantize_static(fp32, path, batches, recipe.calibration, keep, tables)
        elif recipe.precision in ("w8", "w4"):
            from mlops.compression.weights import quantize_weights

            quantize_weights(source / MODEL, path, 8 if recipe.precision == "w8" else 4, keep=keep, min_table=tables)
        elif recipe.precision == "fp16":
            from mlops.compression.half import to_half

            to_half(source / MODEL, path)
        else:
            shutil.copyfile(source / MODEL, path)

    def _smoothed(self, source: Path, path: Path) -> Path:
        """The fp32 file of a package with smooth activations, beside the package that is made of it."""
        from mlops.compression.smooth import smooth

        target = path.parent.with_name(f"{path.parent.name}-smooth.onnx")
        smooth(source / MODEL, target, list(calibration(source, self._items)))
        return target

    def _trained(self, shape: str, share: float) -> Path:
        """The smaller torch model's folder."""
        recipe = Recipe(shape, shape, share=share)  # type: ignore[arg-type]
        name = known.key(self._origin.sha256, shape, share, self.trained_from(recipe))
        return known.folder("students", name, lambda: self._train(shape, share))

    def _train(self, shape: str, share: float) -> Path:
        from mlops.compression.students import student

        config, target, store = self._config, self._folder / f"torch-{shape}-{share:g}", open_store()
        package = read_package(self._source)
        task = get(package.task)
        rows = {split: task.read(store.fetch(self._splits[split]), package.labels) for split in ("train", "validation")}
        student(
            self._source,
            target,
            shape,
            share,
            rows["train"],
            rows["validation"],
            config.train,
            config.gate.metric,
            config.compress.epochs,
            config.train.seed,
            report=self._in_time,
        )
        return target

    def _in_time(self, values: Mapping[str, float], step: int) -> None:
        """Hears of a training every few seconds, and ends it."""
        if time.monotonic() > self.ends:
            raise OutOfTime


def _export(source: Path, target: Path) -> dict[str, int]:
    """Writes a torch folder's fp32 package; returns the fusions."""
    from mlops.compression.export import export
    from mlops.training.models import load_model

    package = read_package(source)
    target.mkdir()
    model = load_model(source, get(package.task), package.labels, attention="eager").eval()
    try:
        fused = export(model, target / MODEL, package.inputs)
    except Exception as error:  # torch's exporter raises a kind per operator
        kind = type(model).__name__
        raise UserError(f"{kind} cannot be exported to ONNX: {type(error).__name__}: {error}") from error
    shutil.copyfile(source / TOKENIZER, target / TOKENIZER)
    write_package(target, package.model_copy(update={"variant": "fp32"}))
    return fused


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
