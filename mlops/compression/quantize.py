"""int8: dynamic quantization of the matrix products, and row-wise int8 embedding tables.

Products: weights per output channel, activations per call (onnxruntime's dynamic quantization). The classifier's own small
layers stay in fp32. Embeddings: a row of a table is int8 times its own scale, max|row| / 127; only the rows that a
text needs are ever turned back into floats, so a table costs a quarter and a look-up stays a look-up.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np

from mlops.compression.export import hushed
from mlops.serving.cpu import saturates

log = logging.getLogger("evergreen")

# Smaller tables (token types, say) would cost two more operators per call and save nothing.
MIN_TABLE = 1 << 16


def quantize(
    source: Path, target: Path, reduce_range: bool | None = None, min_table: int = MIN_TABLE
) -> dict[str, int]:
    """Writes an int8 form of an fp32 ONNX file; returns how many "products" and "tables" were.

    "reduced_range" in the answer is 1 where weights kept to 7 bits.

    reduce_range: 7-bit weights, which cannot overflow on processors without VNNI; by default as this one needs it.
    min_table: embedding tables with fewer values stay as they are.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    reduced = saturates() if reduce_range is None else reduce_range
    with hushed():
        quantize_dynamic(
            source,
            target,
            op_types_to_quantize=["MatMul", "Attention"],
            nodes_to_exclude=_head(onnx.load(str(source)).graph),
            per_channel=True,
            reduce_range=reduced,
            weight_type=QuantType.QInt8,
            use_external_data_format=False,
            # The types behind fused operators cannot be inferred; all of them are floats.
            extra_options={"MatMulConstBOnly": True, "DefaultTensorType": onnx.TensorProto.FLOAT},
        )
    return _shrink_tables(target, min_table) | {"reduced_range": int(reduced)}


def _head(graph: Any) -> list[str]:
    """Names of the products on one vector per text, pooler and classifier; the quantizer splits them under a new name."""
    return [f"{node.name}_MatMul" for node in graph.node if node.op_type == "Gemm"]


def _shrink_tables(path: Path, min_table: int) -> dict[str, int]:
    import onnx

    model = onnx.load(str(path))
    graph = model.graph
    tables = {entry.name: entry for entry in graph.initializer if _is_table(entry, min_table)}
    uses: dict[str, list[Any]] = {}
    for node in graph.node:
        for name in node.input:
            uses.setdefault(name, []).append(node)
    done = 0
    for name, table in tables.items():
        gathers = uses.get(name, [])
        # A table that something else reads too (a tied output layer, say) has to stay whole.
        if gathers and all(node.op_type == "Gather" and node.input[0] == name and _axis(node) == 0 for node in gathers):
            _replace(graph, table, gathers)
            done += 1
    onnx.save_model(model, str(path), save_as_external_data=False)
    products = sum(node.op_type in ("MatMulInteger", "DynamicQuantizeMatMul", "QAttention") for node in graph.node)
    log.info("quantize: %d products and %d embedding tables in int8", products, done)
    return {"products": products, "tables": done}


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
