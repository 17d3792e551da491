"""Which products of a network its answers need in full precision.

A node's sensitivity is how far the answers move when it alone is in int8: the mean squared difference of logits. All but
one in int8 would tell less: beside a second broken node the first looks harmless.

Layers come first, then the nodes of the worst ones. That costs one evaluation a layer and one a node of the layers that
together make up _SHARE of the movement, at most a third of the layers: 10 to 14 for MiniLM-L6 instead of 24, 16 to 28 for
BERT-base instead of 48. The nodes of other layers share their layer's movement as their weights' own errors do.
"""

from __future__ import annotations

import logging
import re
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mlops.compression.export import hushed
from mlops.compression.graph import check_names, load, products, save, weights
from mlops.compression.quantize import quantize

log = logging.getLogger("evergreen")

Answers = npt.NDArray[Any]

_SHARE = 0.9
_NEVER = 1 << 62  # a size that no table has: tables stay as they are
_LAYER = re.compile(r"(?:^|[./_])(?:layers?|blocks?|h)[./_](\d+)")
_BROKEN = 1e30  # what answers count as that are no numbers: more than any others
_CHUNK = 4  # products of a layer where names do not tell: attention, its output, and two of the feed-forward part


def sensitivity(
    source: Path, names: Sequence[str], answers: Callable[[Path], Answers], reference: Answers
) -> list[tuple[str, float]]:
    """The nodes and how far the answers move by them, most sensitive first; equal ones in the order of `names`.

    source: an fp32 ONNX file. names: among mlops.compression.quantize.nodes(source). answers: asks a file, gives
    [rows, labels]. reference: what it gives for source. Raises ValueError for a name that the graph has not.
    """
    check_names(load(source).graph, names)
    errors = weight_errors(source)
    with tempfile.TemporaryDirectory(prefix="evergreen-sensitivity-") as folder:
        trial = _Trial(source, Path(folder) / "model.onnx", answers, reference)
        groups = layers(names)
        moved = [trial.moved(group) for group in groups]
        worst = _worst(moved)
        found: dict[str, float] = {}
        for position, group in enumerate(groups):
            if position in worst and len(group) > 1:
                found |= {name: trial.moved([name]) for name in group}
            else:
                whole = sum(errors[name] ** 2 for name in group)
                found |= {name: moved[position] * (errors[name] ** 2 / whole if whole else 1.0) for name in group}
    log.info("sensitivity: %d nodes by %d evaluations", len(names), trial.count)
    return sorted(((name, found[name]) for name in names), key=lambda entry: -entry[1])


def weight_errors(source: Path) -> dict[str, float]:
    """How much of a node's weights 8 bits lose, by its name: cheap, as nothing is computed on text.

    Root mean square of the rounding errors over the median of the weights' sizes. Not over their norm: a few outliers,
    which make the steps of all others coarse, make the norm as large as the errors.
    """
    graph = load(source).graph
    return {name: _error(matrix) for name, matrix in weights(graph, products(graph)).items()}


def _error(matrix: npt.NDArray[np.float32]) -> float:
    step = np.abs(matrix).max(axis=0, keepdims=True) / 127
    step = np.where(step > 0, step, np.float32(1))
    lost = float(np.sqrt(np.mean((np.rint(matrix / step) * step - matrix) ** 2, dtype=np.float64)))
    usual = float(np.median(np.abs(matrix)))
    return lost / usual if usual else 0.0


def layers(names: Sequence[str]) -> list[list[str]]:
    """Names of nodes, in the order of the graph, by the layer that they tell: ".../layer.3/...".

    A fused node has lost its layer's name and belongs to the next that has one. Where none has, four make a layer.
    """
    numbers = [int(found.group(1)) if (found := _LAYER.search(name)) else None for name in names]
    if not any(number is not None for number in numbers):
        return [list(names[start : start + _CHUNK]) for start in range(0, len(names), _CHUNK)]
    groups: dict[int | None, list[str]] = {}
    following: int | None = None
    for name, number in zip(reversed(names), reversed(numbers), strict=True):
        following = following if number is None else number
        groups.setdefault(following, []).insert(0, name)
    return list(reversed(groups.values()))


def _worst(moved: Sequence[float]) -> set[int]:
    """Positions of the layers that make up most of the movement, at most a third of them, the worst in any case."""
    order = sorted(range(len(moved)), key=lambda position: -moved[position])
    total, covered = sum(moved), 0.0
    chosen: set[int] = set()
    for position in order[: -(-len(moved) // 3)]:
        if chosen and covered >= _SHARE * total:
            break
        chosen.add(position)
        covered += moved[position]
    return chosen


class _Trial:
    """Files in which only some nodes are in int8, and what they answer.

    The whole is quantized once, as that takes longer than asking; a trial takes from it what stands for the nodes.
    """

    def __init__(self, source: Path, path: Path, answers: Callable[[Path], Answers], reference: Answers):
        self._path, self._answers, self._reference = path, answers, reference
        self._fp32 = load(source)
        with hushed():
            quantize(source, path, min_table=_NEVER)
        self._int8 = load(path)
        self.count = 0

    def moved(self, names: Sequence[str]) -> float:
        """Mean squared difference of the logits; _BROKEN where they are no numbers."""
        save(grafted(self._fp32, self._int8, names), self._path)
        self.count += 1
        found = float(np.mean((self._answers(self._path) - self._reference) ** 2, dtype=np.float64))
        return min(found, _BROKEN) if np.isfinite(found) else _BROKEN


def grafted(fp32: Any, int8: Any, names: Sequence[str]) -> Any:
    """The graph `fp32` with the nodes of these names as they are in `int8`, a quantized form of the same graph."""
    import onnx

    chosen = set(names)
    stops = {name for node in fp32.graph.node for name in node.output}
    made = {name: node for node in int8.graph.node for name in node.output}
    nodes: dict[str, Any] = {}
    for node in fp32.graph.node:
        for each in _behind(node.output[0], made, stops) if node.name in chosen else [node]:
            nodes.setdefault(each.output[0], each)  # products of the same activations share what rounds them
    read = {name for node in nodes.values() for name in node.input}
    constants = {entry.name: entry for part in (int8, fp32) for entry in part.graph.initializer if entry.name in read}
    graph = onnx.helper.make_graph(
        list(nodes.values()), fp32.graph.name, fp32.graph.input, fp32.graph.output, list(constants.values())
    )
    return onnx.helper.make_model(graph, opset_imports=int8.opset_import, ir_version=int8.ir_version)


def _behind(output: str, made: dict[str, Any], stops: set[str]) -> list[Any]:
    """The nodes that make a tensor of others in `stops`, in an order in which they can run."""
    node = made[output]
    before = [each for name in node.input if name in made and name not in stops for each in _behind(name, made, stops)]
    return [*before, node]
