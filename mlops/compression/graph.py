"""What the forms of an ONNX file share: which nodes hold weights, who reads a tensor, how a file is written."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt


def load(path: Path) -> Any:
    """The onnx.ModelProto of a file."""
    import onnx

    return onnx.load(str(path))


def save(model: Any, path: Path) -> None:
    """Writes one file with all weights in it, the same bytes for the same model."""
    import onnx

    path.unlink(missing_ok=True)
    onnx.save_model(model, str(path), save_as_external_data=False)


def products(graph: Any) -> list[Any]:
    """The nodes that multiply by constant float matrices, in the order of the graph: MatMul and fused Attention.

    Not the Gemm nodes, pooler and classifier: they work on one vector per text, cost nothing and decide the answer.
    """
    matrices = _float_matrices(graph)
    return [
        node
        for node in graph.node
        if node.op_type in ("MatMul", "Attention")
        and node.input[1] in matrices
        # onnxruntime has no integer kernel where queries, keys and values differ in width.
        and not any(attribute.name == "qkv_hidden_sizes" for attribute in node.attribute)
    ]


def _float_matrices(graph: Any) -> set[str]:
    from onnx import TensorProto

    return {entry.name for entry in graph.initializer if entry.data_type == TensorProto.FLOAT and len(entry.dims) == 2}


def weights(graph: Any, nodes: Iterable[Any]) -> dict[str, npt.NDArray[np.float32]]:
    """The matrices [inputs, outputs] of some of `products`, by name of the node."""
    from onnx import numpy_helper

    entries = {entry.name: entry for entry in graph.initializer}
    return {node.name: numpy_helper.to_array(entries[node.input[1]]) for node in nodes}


def readers(graph: Any) -> dict[str, list[Any]]:
    """The nodes that read a tensor, by the tensor's name."""
    found: dict[str, list[Any]] = {}
    for node in graph.node:
        for name in node.input:
            found.setdefault(name, []).append(node)
    return found


def check_names(graph: Any, keep: Sequence[str]) -> None:
    """Raises ValueError for a name that is none of `products`: a misspelt one would be quantized without a word."""
    known = [node.name for node in products(graph)]
    if unknown := sorted(set(keep) - set(known)):
        raise ValueError(f"keep names {', '.join(unknown)}; the graph's nodes are {', '.join(known) or 'none'}")


def prune(graph: Any) -> None:
    """Takes out nodes and constants that nothing reads."""
    outputs = {entry.name for entry in graph.output}
    while True:
        uses = readers(graph)
        live = [node for node in graph.node if any(name in outputs or uses.get(name) for name in node.output)]
        if len(live) == len(graph.node):
            break
        del graph.node[:]
        graph.node.extend(live)
    constants = [entry for entry in graph.initializer if entry.name in uses or entry.name in outputs]
    del graph.initializer[:]
    graph.initializer.extend(constants)


def declare(model: Any) -> None:
    """Says that the model uses onnxruntime's own operators."""
    from onnx import helper

    if not any(entry.domain == "com.microsoft" for entry in model.opset_import):
        model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
