"""Where a graph's answer is read from each text's first token alone, its last layer computes that token alone.

A classifier's pooler reads the first token; in the last layer only keys and values of the other tokens count, not their own
queries, feed-forward part and normalization. The answers stay the same. Of MiniLM-L6 a seventh of all products goes.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from mlops.compression.graph import declare, prune, readers

# Computed for each token by itself: the inputs that are data.
_BY_TOKEN = {"LayerNormalization": 1, "Gelu": 1, "FastGelu": 1, "Relu": 1, "Tanh": 1, "MatMul": 1, "Add": 2}


class Tail(NamedTuple):
    """What lies between the last attention and the node that picks the first token."""

    attention: Any
    nodes: list[Any]


def first_token_only(model: Any) -> bool:
    """Rewrites an fp32 onnx.ModelProto in place where that can be done; whether it was."""
    graph = model.graph
    constants = {entry.name: entry for entry in graph.initializer}
    tail = _tail(graph, constants)
    if tail is None:
        return False
    _rewrite(graph, tail, constants)
    declare(model)
    prune(graph)
    return True


def _tail(graph: Any, constants: dict[str, Any]) -> Tail | None:
    fused = [node for node in graph.node if node.op_type == "Attention"]
    picks = [node for node in graph.node if node.op_type == "Gather" and _picks_first(graph, node, constants)]
    if not fused or len(picks) != 1:
        return None
    attention = fused[-1]
    plain = (
        len(attention.input) == 4 and all(attention.input) and {a.name for a in attention.attribute} == {"num_heads"}
    )
    matrices = all(name in constants for name in attention.input[1:3])
    made = {name: node for node in graph.node for name in node.output}
    nodes: list[Any] = []
    left, ends = [picks[0].input[0]], {attention.input[0], attention.output[0]}
    while left:
        name = left.pop()
        if name in ends or any(name in node.output for node in nodes):
            continue
        node = made.get(name)
        data = _data(node, constants)
        if not data:
            return None
        nodes.append(node)
        left += data
    uses = readers(graph)
    outside = [
        user for node in nodes for name in node.output for user in uses.get(name, []) if user not in (*nodes, picks[0])
    ]
    reached = any(attention.output[0] in node.input for node in nodes)
    alone = all(user in nodes for user in uses.get(attention.output[0], []))
    return Tail(attention, nodes) if plain and matrices and reached and alone and not outside else None


def _data(node: Any, constants: dict[str, Any]) -> list[str]:
    """What a node reads of the tokens; nothing where it does not work on each token by itself."""
    if node is None or len(node.output) != 1 or node.op_type not in _BY_TOKEN:
        return []
    given, fixed = list(node.input), node.input[_BY_TOKEN[node.op_type] :]
    if node.op_type == "Add":
        fixed = [name for name in given if name in constants]
        if any(len(constants[name].dims) != 1 for name in fixed):
            return []
        return [name for name in given if name not in fixed]
    return given[:1] if all(name in constants for name in fixed) else []


def _picks_first(graph: Any, node: Any, constants: dict[str, Any]) -> bool:
    """Whether a Gather takes place 0 of the second axis."""
    from onnx import helper, numpy_helper

    axis = next((helper.get_attribute_value(a) for a in node.attribute if a.name == "axis"), 0)
    tensor = constants.get(node.input[1])
    for other in graph.node:
        if other.op_type == "Constant" and node.input[1] in other.output:
            tensor = next((a.t for a in other.attribute if a.name == "value"), None)
    index = None if tensor is None else numpy_helper.to_array(tensor)
    return axis == 1 and index is not None and index.ndim == 0 and int(index) == 0


def _rewrite(graph: Any, tail: Tail, constants: dict[str, Any]) -> None:
    """Attention(all) becomes attention of the first token's queries to all keys and values."""
    from onnx import helper, numpy_helper

    node = tail.attention
    tokens, weights, bias, mask = node.input
    matrix, vector = (numpy_helper.to_array(constants[name]) for name in (weights, bias))
    width = matrix.shape[1] // 3
    made = node.output[0]
    first, query, both, keys, values = (f"{made}.{part}" for part in ("first", "query", "both", "keys", "values"))

    def constant(name: str, array: Any) -> str:
        graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(array), f"{made}.{name}"))
        return f"{made}.{name}"

    ends = [constant(name, np.array([value], dtype=np.int64)) for name, value in (("zero", 0), ("one", 1), ("axis", 1))]
    parts = [helper.make_node("Slice", [tokens, *ends], [first], f"{node.name}.first")]
    for name, source, target, columns in (
        ("query", first, query, slice(None, width)),
        ("both", tokens, both, slice(width, None)),
    ):
        given = [source, constant(f"{name}.weight", matrix[:, columns])]
        parts.append(helper.make_node("MatMul", given, [f"{target}.product"], f"{node.name}.{name}"))
        given = [f"{target}.product", constant(f"{name}.bias", vector[columns])]
        parts.append(helper.make_node("Add", given, [target], f"{node.name}.{name}.bias"))
    parts.append(helper.make_node("Split", [both], [keys, values], f"{node.name}.split", axis=-1))
    heads = next(attribute.i for attribute in node.attribute if attribute.name == "num_heads")
    given = [query, keys, values, "", mask]
    parts.append(
        helper.make_node("MultiHeadAttention", given, [made], node.name, domain="com.microsoft", num_heads=heads)
    )
    for other in tail.nodes:
        for position, name in enumerate(other.input):
            if name == tokens:
                other.input[position] = first
    place = list(graph.node).index(node)
    graph.node.remove(node)
    for offset, part in enumerate(parts):
        graph.node.insert(place + offset, part)
