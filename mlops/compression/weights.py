"""Weights alone in 4 or 8 bits: for small files; faster than fp32 for one text, slower than int8 for many.

Each column of a matrix is cut into blocks that have a scale and a zero point of their own: onnxruntime's MatMulNBits. The
fused Attention node holds its weights inside and no operator has them in 4 bits, so it is split first, see
mlops.compression.attention. Embedding tables are in 8 bits, see mlops.compression.tables.

Measured on e5-small, 12 layers, one thread with VNNI; texts × tokens 1 × 16, 1 × 128, 16 × 32, median ms:

    fp32                              15.9    91.7   353
    8 bits, products in floats        65.1   147     435
    8 bits, products in 8 bits        10.0    73.4   314
    4 bits, products in floats        17.0    95.1   367
    4 bits, products in 8 bits        12.0    91.3   365

So the activations of a block are rounded to 8 bits (accuracy_level 4): less is lost than by int8, whose scale holds for
all of a call.

onnxruntime's own packing tool needs onnx_ir, which is not among the dependencies, and sets up the root logger on import.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from mlops.compression.attention import split_attention
from mlops.compression.graph import check_names, declare, load, products, prune, save, weights
from mlops.compression.tables import MIN_TABLE, shrink_tables

log = logging.getLogger("evergreen")

Bytes = npt.NDArray[np.uint8]

_BLOCKS_IN_INT8 = 4  # an accuracy_level of MatMulNBits


def quantize_weights(
    source: Path,
    target: Path,
    bits: Literal[4, 8],
    block: int = 32,
    keep: Sequence[str] = (),
    min_table: int = MIN_TABLE,
) -> dict[str, int]:
    """Writes a form of an fp32 ONNX file with weights in few bits; returns how many "products" and "tables" were.

    block: values that share a scale; a power of two from 16 on. keep: names among `nodes` that stay in fp32. min_table:
    embedding tables with fewer values stay as they are. Raises ValueError for another number of bits, another block and a
    name that the graph has not.
    """
    if bits not in (4, 8):
        raise ValueError(f"bits is {bits}, allowed are 4 and 8")
    if block < 16 or block & (block - 1):
        raise ValueError(f"block is {block}, allowed is a power of two from 16 on")
    model = load(source)
    check_names(model.graph, keep)
    split_attention(model, keep)
    chosen = {node.name for node in products(model.graph) if node.op_type == "MatMul"} - set(keep)
    matrices = weights(model.graph, (node for node in model.graph.node if node.name in chosen))
    for position, node in enumerate(model.graph.node):
        if node.name in chosen:
            model.graph.node[position].CopyFrom(_product(model.graph, node, matrices[node.name], bits, block))
    prune(model.graph)
    declare(model)
    tables = shrink_tables(model, min_table)
    save(model, target)
    log.info("quantize: weights of %d products in %d bits and %d embedding tables in int8", len(chosen), bits, tables)
    return {"products": len(chosen), "tables": tables, "bits": bits}


def _product(graph: Any, node: Any, matrix: npt.NDArray[np.float32], bits: int, block: int) -> Any:
    """MatMul(x, matrix) as MatMulNBits; two products by one matrix get a copy each."""
    from onnx import helper, numpy_helper

    packed = dict(zip(("weights", "scales", "zeros"), pack(matrix, bits, block), strict=True))
    names = [f"{node.name}.{part}" for part in packed]
    graph.initializer.extend(
        numpy_helper.from_array(array, name) for name, array in zip(names, packed.values(), strict=True)
    )
    inputs, width = matrix.shape
    sizes = {"K": inputs, "N": width, "bits": bits, "block_size": block, "accuracy_level": _BLOCKS_IN_INT8}
    return helper.make_node(
        "MatMulNBits", [node.input[0], *names], list(node.output), name=node.name, domain="com.microsoft", **sizes
    )


def pack(matrix: npt.NDArray[np.float32], bits: int, block: int) -> tuple[Bytes, npt.NDArray[np.float32], Bytes]:
    """A matrix [inputs, outputs] as MatMulNBits wants it: values [outputs, blocks, block × bits / 8], scales and zero points.

    A value is (q - zero) × scale, off by at most half a scale. In 4 bits the first of two values is in the lower half of
    a byte. https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#commicrosoftmatmulnbits
    """
    inputs, outputs = matrix.shape
    blocks = -(-inputs // block)
    columns = np.pad(matrix.T, ((0, 0), (0, blocks * block - inputs))).reshape(outputs, blocks, block)
    most = np.float32(2**bits - 1)
    low, high = np.minimum(columns.min(axis=2), 0), np.maximum(columns.max(axis=2), 0)
    scales = ((high - low) / most).astype(np.float32)
    safe = np.where(scales > 0, scales, np.float32(1))
    zeros = np.clip(np.rint(-low / safe), 0, most)
    values = np.clip(np.rint(columns / safe[..., None]) + zeros[..., None], 0, most)
    return _bytes(values, bits), safe.reshape(-1), _bytes(zeros, bits).reshape(-1)


def _bytes(values: npt.NDArray[np.floating[Any]], bits: int) -> Bytes:
    whole = values.astype(np.uint8)
    if bits == 8:
        return whole
    if whole.shape[-1] % 2:
        whole = np.pad(whole, ((0, 0),) * (whole.ndim - 1) + ((0, 1),))
    return np.asarray(whole[..., ::2] | (whole[..., 1::2] << 4), dtype=np.uint8)
