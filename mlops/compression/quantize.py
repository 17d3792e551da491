"""int8: dynamic quantization of the matrix products, and row-wise int8 embedding tables.

Products: weights per output channel, activations per call (onnxruntime's dynamic quantization). The classifier's own small
layers stay in fp32. Embeddings: see mlops.compression.tables.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mlops.compression.export import hushed
from mlops.compression.graph import check_names, load, products, save
from mlops.compression.tables import MIN_TABLE, shrink_tables
from mlops.serving.cpu import saturates

log = logging.getLogger("evergreen")

_INTEGER = ("MatMulInteger", "DynamicQuantizeMatMul", "QAttention")


def nodes(source: Path) -> list[str]:
    """Names of the nodes that can be quantized, in the order of the graph: products by constant weights and Attention."""
    return [node.name for node in products(load(source).graph)]


def quantize(
    source: Path,
    target: Path,
    reduce_range: bool | None = None,
    min_table: int = MIN_TABLE,
    keep: Sequence[str] = (),
) -> dict[str, int]:
    """Writes an int8 form of an fp32 ONNX file; returns how many "products" and "tables" were.

    "reduced_range" in the answer is 1 where weights kept to 7 bits.

    reduce_range: 7-bit weights, which cannot overflow on processors without VNNI; by default as this one needs it.
    min_table: embedding tables with fewer values stay as they are. keep: names among `nodes` that stay in fp32.
    Raises ValueError for a name that the graph has not.
    """
    model = load(source)
    check_names(model.graph, keep)
    reduced = saturates() if reduce_range is None else reduce_range
    _quantize_products(model, target, reduced, [*heads(model.graph), *keep])
    model = load(target)
    tables = shrink_tables(model, min_table)
    save(model, target)
    count = sum(node.op_type in _INTEGER for node in model.graph.node)
    log.info("quantize: %d products and %d embedding tables in int8", count, tables)
    return {"products": count, "tables": tables, "reduced_range": int(reduced)}


def _quantize_products(model: Any, target: Path, reduced: bool, keep: Sequence[str]) -> None:
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with hushed():
        quantize_dynamic(
            model,  # not its path: beside that it would write a file of its own
            target,
            op_types_to_quantize=["MatMul", "Attention"],
            nodes_to_exclude=list(keep),
            per_channel=True,
            reduce_range=reduced,
            weight_type=QuantType.QInt8,
            use_external_data_format=False,
            # The types behind fused operators cannot be inferred; all of them are floats.
            extra_options={"MatMulConstBOnly": True, "DefaultTensorType": onnx.TensorProto.FLOAT},
        )


def heads(graph: Any) -> list[str]:
    """Names of the products on one vector per text, pooler and classifier; the quantizer splits them under a new name."""
    return [f"{node.name}_MatMul" for node in graph.node if node.op_type == "Gemm"]
