"""The fused Attention node as a plain product and what is left of it: for tools that know products only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


def split_attention(model: Any, keep: Sequence[str] = ()) -> int:
    """Turns Attention(x, weights, bias, mask) of an onnx.ModelProto into MatMul(x, weights), Split and MultiHeadAttention.

    The answers stay the same. The product takes the name of the node, so that `keep` means the same in both graphs.
    Returns how many were turned; nodes in `keep`, and those with more inputs (a past, a bias of positions), stay.
    """
    graph, done = model.graph, 0
    sizes = {entry.name: entry.dims for entry in graph.initializer}
    nodes: list[Any] = []
    for node in graph.node:
        plain = node.op_type == "Attention" and node.input[1] in sizes and not any(node.input[4:])
        if plain and node.name not in set(keep):
            nodes += _split(graph, node, int(sizes[node.input[1]][1]))
            done += 1
        else:
            nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    return done


def _split(graph: Any, node: Any, width: int) -> list[Any]:
    from onnx import helper, numpy_helper

    x, weights, bias, *mask = node.input
    name, own = node.name, {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    widths = np.array(own.pop("qkv_hidden_sizes", [width // 3] * 3), dtype=np.int64)
    graph.initializer.append(numpy_helper.from_array(widths, f"{name}.widths"))
    own = {
        key: value for key, value in own.items() if key in ("num_heads", "mask_filter_value", "scale", "unidirectional")
    }
    parts = [f"{name}.{part}" for part in ("queries", "keys", "values")]
    return [
        helper.make_node("MatMul", [x, weights], [f"{name}.product"], name=name),
        helper.make_node("Split", [f"{name}.product", f"{name}.widths"], parts, name=f"{name}.split", axis=2),
        helper.make_node(
            "MultiHeadAttention",
            [*parts, bias, *mask[:1]],
            [node.output[0]],
            name=f"{name}.heads",
            domain="com.microsoft",
            **own,
        ),
    ]
