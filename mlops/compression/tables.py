"""Embedding tables in 8 bits: a row is int8 times its own scale, max|row| / 127.

Only the rows that a text needs are ever turned back into floats, so a table costs a quarter and a look-up stays a look-up.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mlops.compression.graph import readers

# Smaller tables (token types, say) would cost two more operators per call and save nothing.
MIN_TABLE = 1 << 16


def shrink_tables(model: Any, min_table: int = MIN_TABLE) -> int:
    """Turns the float tables [rows, width] of an onnx.ModelProto into int8 in place; returns how many.

    min_table: tables with fewer values stay as they are. So do tables that something else than look-ups reads.
    """
    graph, done = model.graph, 0
    tables = {entry.name: entry for entry in graph.initializer if _is_table(entry, min_table)}
    uses = readers(graph)
    for name, table in tables.items():
        gathers = uses.get(name, [])
        # A table that something else reads too (a tied output layer, say) has to stay whole.
        if gathers and all(node.op_type == "Gather" and node.input[0] == name and _axis(node) == 0 for node in gathers):
            _replace(graph, table, gathers)
            done += 1
    return done


def _is_table(entry: Any, min_table: int) -> bool:
    import onnx

    return (
        entry.data_type == onnx.TensorProto.FLOAT
        and len(entry.dims) == 2
        and int(entry.dims[0]) * int(entry.dims[1]) >= min_table
    )


def _axis(node: Any) -> int:
    return next((int(attribute.i) for attribute in node.attribute if attribute.name == "axis"), 0)


def _replace(graph: Any, table: Any, gathers: list[Any]) -> None:
    """Gather(table) becomes Cast(Gather(int8 table)) × Gather(scale)."""
    from onnx import TensorProto, helper, numpy_helper

    values, scale = rows_to_int8(numpy_helper.to_array(table))
    name = table.name
    graph.initializer.remove(table)
    graph.initializer.append(numpy_helper.from_array(values, f"{name}.int8"))
    graph.initializer.append(numpy_helper.from_array(scale, f"{name}.scale"))
    for number, node in enumerate(gathers):
        where, indices, output = f"{name}.{number}", node.input[1], node.output[0]
        nodes = [
            helper.make_node("Gather", [f"{name}.int8", indices], [f"{where}.rows"], axis=0),
            helper.make_node("Cast", [f"{where}.rows"], [f"{where}.floats"], to=TensorProto.FLOAT),
            helper.make_node("Gather", [f"{name}.scale", indices], [f"{where}.scales"], axis=0),
            helper.make_node("Mul", [f"{where}.floats", f"{where}.scales"], [output]),
        ]
        place = list(graph.node).index(node)
        graph.node.remove(node)
        for offset, new in enumerate(nodes):
            graph.node.insert(place + offset, new)


def rows_to_int8(table: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """A float table [rows, width] as int8 [rows, width] and float32 scales [rows, 1]; off by at most half a scale."""
    scale = np.abs(table).max(axis=1, keepdims=True).astype(np.float32) / np.float32(127)
    safe = np.where(scale > 0, scale, np.float32(1))
    return np.rint(table / safe).astype(np.int8), safe
