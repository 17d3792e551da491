"""What of a quantized file to keep in fp32 so that it answers as before."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mlops.compression import known
from mlops.compression.build import Builder
from mlops.compression.recipes import Recipe
from mlops.serving.package import MODEL, PACKAGE, TOKENIZER
from mlops.tasks.base import Item

_ROWS = 128


def ranked(builder: Builder, recipe: Recipe, items: Sequence[Item], origin: Sequence[str]) -> list[str]:
    """Names of the nodes of the recipe's fp32 graph, those first whose quantization moves the answers most; found once.

    origin: digests of the model and of the items.
    """
    from mlops.serving.cpu import saturates

    name = known.key(*origin, recipe.shape, recipe.share, builder.trained_from(recipe), saturates())
    found: list[str] = known.value("rankings", name, lambda: _ranked(builder, recipe, items))
    return found


def _ranked(builder: Builder, recipe: Recipe, items: Sequence[Item]) -> list[str]:
    from mlops.compression.quantize import nodes
    from mlops.compression.sensitivity import sensitivity

    folder = builder.fp32(recipe.shape, recipe.share)
    some = items[:: max(1, len(items) // _ROWS)][:_ROWS]

    def answers(path: Path) -> npt.NDArray[np.float64]:
        return _logits(folder, path, some)

    found = sensitivity(folder / MODEL, nodes(folder / MODEL), answers, answers(folder / MODEL))
    return [name for name, moved in found if moved > 0]


def _logits(folder: Path, path: Path, items: Sequence[Item]) -> npt.NDArray[np.float64]:
    """What another file of the same package answers, [rows, labels]; tokens of all items below each other."""
    from mlops.serving.runtime import Runtime

    place = path.parent / f"{path.stem}-package"
    place.mkdir(exist_ok=True)
    for name in (TOKENIZER, PACKAGE):
        shutil.copyfile(folder / name, place / name)
    shutil.copyfile(path, place / MODEL)
    found = Runtime.load(place).logits(items)
    shutil.rmtree(place)
    return np.vstack([np.atleast_2d(each) for each in found]).astype(np.float64)
