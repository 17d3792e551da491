"""fp16 weights and products, for GPUs; inputs and logits keep their types.

A processor has few products in fp16: onnxruntime turns them back into fp32 there, which is right but not faster.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mlops.compression.export import hushed
from mlops.compression.graph import load, save

log = logging.getLogger("evergreen")

_LARGEST = 65504.0  # in fp16
# What hides padding is the lowest fp32 number. Cut to the lowest fp16 one, a negative score added to it would overflow to
# minus infinity, and a row that is all padding would come out as no number. e ** -10000 is 0 as well.
_HIDING = 10000.0


def to_half(source: Path, target: Path) -> dict[str, int]:
    """Writes an fp16 form of an fp32 ONNX file; returns how many "tensors" are in fp16 and how many were "cut".

    Cut is a constant that has values beyond ±65504, which fp16 has not; they become ±10000.
    Raises ValueError for a file that holds no fp32 weights.
    """
    from onnx import TensorProto
    from onnxruntime.transformers.float16 import convert_float_to_float16

    model = load(source)
    if all(tensor.data_type != TensorProto.FLOAT for tensor in model.graph.initializer):
        raise ValueError(f"{source} holds no fp32 weights")
    cut = sum(_cut(tensor) for tensor in _constants(model.graph))
    with hushed():
        model = convert_float_to_float16(model, keep_io_types=True)
    tensors = sum(tensor.data_type == TensorProto.FLOAT16 for tensor in model.graph.initializer)
    save(model, target)
    log.info("half: %d tensors in fp16, %d with cut values", tensors, cut)
    return {"tensors": tensors, "cut": cut}


def _constants(graph: Any) -> Iterator[Any]:
    yield from graph.initializer
    for node in graph.node:
        if node.op_type == "Constant":
            yield from (attribute.t for attribute in node.attribute if attribute.name == "value")


def _cut(tensor: Any) -> int:
    from onnx import TensorProto, numpy_helper

    if tensor.data_type != TensorProto.FLOAT:
        return 0
    values = numpy_helper.to_array(tensor)
    beyond = np.abs(values) > _LARGEST
    if not beyond.any():
        return 0
    cut = np.where(beyond, np.sign(values) * np.float32(_HIDING), values).astype(np.float32)
    tensor.CopyFrom(numpy_helper.from_array(cut, tensor.name))
    return 1
