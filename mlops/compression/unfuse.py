"""Fused nodes that a processor computes slower than their parts, taken apart again.

onnxruntime's fusions are made for GPUs first. On a processor SkipLayerNormalization goes number by number where
LayerNormalization uses vector instructions, and the bias of BiasGelu costs nothing in the integer product before it, which
takes it along. Measured on MiniLM-L6 in int8, 32 rows of 32 tokens, one thread with AVX512-VNNI, ms: SkipLayerNormalization
35, in parts 11; BiasGelu 21, in parts 12. `benchmarks/compression.py` shows what it does to a whole file.

The session that serves must not fuse them anew: mlops.serving.session says so to onnxruntime.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def take_apart(model: Any) -> int:
    """Replaces SkipLayerNormalization and BiasGelu in an onnx.ModelProto by their parts, in place; returns how many.

    Nodes with more than one output that is read stay as they are.
    """
    graph, done = model.graph, 0
    nodes: list[Any] = []
    for node in graph.node:
        parts = list(_parts(node))
        done += bool(parts)
        nodes += parts or [node]
    if done:
        del graph.node[:]
        graph.node.extend(nodes)
    return done


def _parts(node: Any) -> Iterator[Any]:
    """What computes the same as a node; nothing for a node that stays."""
    from onnx import helper

    if any(node.output[1:]):  # the sum itself is asked for too
        return
    if node.op_type == "SkipLayerNormalization" and len(node.input) >= 4:
        yield from _normalised(node)
    elif node.op_type == "BiasGelu":
        biased = f"{node.output[0]}.biased"
        yield helper.make_node("Add", list(node.input), [biased], f"{node.name}.bias")
        yield helper.make_node("Gelu", [biased], list(node.output), node.name, domain="com.microsoft")


def _normalised(node: Any) -> Iterator[Any]:
    """LayerNorm(values + bias + skipped): the bias next to the values, whose product can take it along."""
    from onnx import helper

    values, skipped, scale, shift = node.input[:4]
    if len(node.input) > 4 and node.input[4]:
        biased = f"{node.output[0]}.biased"
        yield helper.make_node("Add", [values, node.input[4]], [biased], f"{node.name}.bias")
        values = biased
    total = f"{node.output[0]}.sum"
    yield helper.make_node("Add", [values, skipped], [total], f"{node.name}.skip")
    epsilon = next((attribute.f for attribute in node.attribute if attribute.name == "epsilon"), 1e-12)
    yield helper.make_node(
        "LayerNormalization", [total, scale, shift], [node.output[0]], node.name, axis=-1, epsilon=epsilon
    )
