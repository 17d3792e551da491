"""What can be made of a fine-tuned model, by name, and in which order it is worth trying."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, get_args

from mlops.config_compress import CompressSection

Shape = Literal["full", "pruned", "student"]
Precision = Literal["fp32", "fp16", "int8", "int8-static", "w8", "w4"]
Calibration = Literal["minmax", "percentile", "entropy"]
CALIBRATIONS: tuple[Calibration, ...] = get_args(Calibration)
TABLES = "tables"  # among what is kept: the embedding tables


@dataclass(frozen=True)
class Recipe:
    """One way to make a file. shape: of the network; pruned has fewer inner neurons and heads, a student fewer layers.
    precision: of its weights and products. keep: names of nodes that stay in fp32, TABLES for the embeddings. calibration:
    how an int8-static file finds the range of its activations. share: of layers or neurons that are left. smooth: outlying
    channels of activations go into the weights first."""

    name: str
    shape: Shape = "full"
    precision: Precision = "fp32"
    keep: tuple[str, ...] = ()
    calibration: Calibration = "minmax"
    share: float = 1.0
    smooth: bool = False

    @property
    def trains(self) -> bool:
        """Whether making it trains a network."""
        return self.shape != "full"

    def keeping(self, names: Sequence[str]) -> Recipe:
        """The same with these nodes in fp32."""
        return replace(self, keep=tuple(names))

    def told(self) -> str:
        """The name with what makes it another one of that name."""
        more: list[str] = ["smoothed"] if self.smooth else []
        more += [self.calibration] if self.calibration != "minmax" else []
        more += [f"{len(self.keep)} in fp32"] if self.keep else []
        return ", ".join([self.name, *more])

    def dump(self) -> dict[str, Any]:
        """As a report and a key have it."""
        return asdict(self) | {"keep": list(self.keep)}


def _smaller(shape: Shape) -> list[Recipe]:
    """A trained shape by itself and with every cheaper precision."""
    cheaper: tuple[Precision, ...] = ("int8", "int8-static", "w8", "w4")
    return [Recipe(shape, shape, share=0.5), *(Recipe(f"{shape}+{name}", shape, name, share=0.5) for name in cheaper)]


RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe("fp32"),
        Recipe("fp16", precision="fp16"),
        Recipe("int8", precision="int8"),
        Recipe("int8-static", precision="int8-static"),
        Recipe("w8", precision="w8"),
        Recipe("w4", precision="w4"),
        *_smaller("pruned"),
        *_smaller("student"),
    )
}
# Cheapest first. fp16 is for GPUs, which the serving runtime does not use: only a list asks for it.
_STUDENTS = ("student+int8", "pruned+int8")
_QUICK = ("int8", "int8-static", "w8")
_SMALLEST = ("w4",)  # slower than int8: where a size or memory is wished for


def ladder(section: CompressSection) -> list[Recipe]:
    """What a search tries, in order; fp32 is left out: it is what the others are compared with."""
    small = section.target.size_mb is not None or section.target.memory_mb is not None
    names = (*(_STUDENTS if section.students else ()), *_QUICK, *(_SMALLEST if small else ()))
    return [RECIPES[name] for name in names]
