"""int8 with fixed ranges: the scale of an activation comes from calibration rows instead of being found at each call.

onnxruntime's own quantize_static writes pairs of quantize and dequantize nodes (QDQ). It knows no fused Attention node and
costs time here. Measured on e5-small, 12 layers, one thread with VNNI, 16 texts of up to 32 tokens, median ms:

    fp32                                                      243
    int8 dynamic                                              101
    QDQ, Attention left in fp32                               137
    QDQ, Attention split into a product and attention heads   106
    as here: QAttention and MatMulIntegerToFloat, fixed       101

So the graph is that of mlops.compression.quantize with constants for the ranges. Looking for a range is cheap: the gain
over dynamic is within the noise, and what calibration rows did not show is cut off.
"""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from mlops.compression.graph import declare, load, products, prune, readers, save
from mlops.compression.quantize import quantize
from mlops.compression.tables import MIN_TABLE
from mlops.serving.cpu import threads

log = logging.getLogger("evergreen")

Method = Literal["minmax", "entropy", "percentile"]
Ranges = dict[str, tuple[float, float]]

_PERCENTILE = 99.99  # of the values that stay within the range
# Entropy tries every range from 128 bins upwards, in Python: more bins cost minutes.
_BINS = {"entropy": 512, "percentile": 2048}


def quantize_static(
    source: Path,
    target: Path,
    batches: Sequence[Mapping[str, npt.NDArray[Any]]],
    method: Method = "minmax",
    keep: Sequence[str] = (),
    min_table: int = MIN_TABLE,
) -> dict[str, int]:
    """Writes an int8 form with fixed ranges of an fp32 ONNX file; returns counts as `quantize` does.

    batches: model inputs of calibration rows, int64 [rows, length] each. method: the range is all that was seen (minmax),
    all but 0.01% (percentile), or what keeps most information (entropy; Migacz, "8-bit inference with TensorRT", GTC 2017).
    keep: names among `nodes` that stay in fp32. min_table: embedding tables with fewer values stay as they are.
    Raises ValueError without batches, for activations that are no numbers, and for a name that the graph has not.
    """
    counts = quantize(source, target, min_table=min_table, keep=keep)
    model = load(target)
    _fix(model, activation_ranges(source, batches, method))
    save(model, target)
    return counts


def activation_ranges(source: Path, batches: Sequence[Mapping[str, npt.NDArray[Any]]], method: Method) -> Ranges:
    """Lowest and highest value, zero always between them, of what goes into each product, by name of the tensor."""
    if not len(batches):
        raise ValueError("found no calibration batches; at least one is needed")
    names = list(dict.fromkeys(node.input[0] for node in products(load(source).graph)))
    collector = _MinMax() if method == "minmax" else _Histograms(method)
    for values in outputs_of(source, names, batches):
        collector.add(values)
    found = {name: (min(0.0, low), max(0.0, high)) for name, (low, high) in collector.ranges().items()}
    if odd := [name for name, ends in found.items() if not np.isfinite(ends).all()]:
        raise ValueError(f"activations of {', '.join(odd)} are not finite: the fp32 model itself overflows")
    return found


def outputs_of(
    source: Path, names: Sequence[str], batches: Sequence[Mapping[str, npt.NDArray[Any]]]
) -> Iterator[dict[str, npt.NDArray[np.float32]]]:
    """The values of tensors inside of a file's graph for each batch, by their names."""
    from onnx import TensorProto, helper
    from onnxruntime import InferenceSession, SessionOptions

    model = load(source)
    given = {entry.name for entry in model.graph.output}
    model.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names if name not in given
    )
    options = SessionOptions()
    options.intra_op_num_threads = threads()
    options.log_severity_level = 3
    session = InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    for batch in batches:
        yield dict(zip(names, session.run(list(names), dict(batch)), strict=True))


class _MinMax:
    """All that was seen."""

    def __init__(self) -> None:
        self._seen: Ranges = {}

    def add(self, values: dict[str, npt.NDArray[np.float32]]) -> None:
        for name, array in values.items():
            low, high = self._seen.get(name, (0.0, 0.0))
            # minimum, unlike min, hands on what is not a number
            self._seen[name] = (float(np.minimum(low, array.min())), float(np.maximum(high, array.max())))

    def ranges(self) -> Ranges:
        return self._seen


class _Histograms:
    """onnxruntime's histograms, fed batch by batch: its calibrators keep the activations of all rows in memory."""

    def __init__(self, method: Method) -> None:
        from onnxruntime.quantization.calibrate import HistogramCollector

        self._collector = HistogramCollector(
            method=method,
            symmetric=False,
            num_bins=_BINS[method],
            num_quantized_bins=128,
            percentile=_PERCENTILE,
            scenario="same",
        )

    def add(self, values: dict[str, npt.NDArray[np.float32]]) -> None:
        with contextlib.redirect_stdout(io.StringIO()):  # it prints
            self._collector.collect(values)

    def ranges(self) -> Ranges:
        with contextlib.redirect_stdout(io.StringIO()):
            found = self._collector.compute_collection_result()
        return {name: (float(low), float(high)) for name, (low, high, *_) in found.items()}


def _fix(model: Any, ranges: Ranges) -> None:
    """The graph of dynamic quantization with ranges that are constants.

    DynamicQuantizeLinear(x) becomes QuantizeLinear(x, scale, zero). onnxruntime then no longer finds products to fuse with
    their scales, as it folds scale times scale before: MatMulInteger, Cast and Mul become MatMulIntegerToFloat here.
    """
    from onnx import helper, numpy_helper

    graph = model.graph
    uses = readers(graph)
    made = {name: node for node in graph.node for name in node.output}
    vectors = {entry.name for entry in graph.initializer if len(entry.dims) == 1}
    nodes: list[Any] = []
    for node in graph.node:
        if node.op_type == "DynamicQuantizeLinear":
            values, scale, zero = node.output
            for name, array in zip((scale, zero), _grid(*ranges[node.input[0]]), strict=True):
                graph.initializer.append(numpy_helper.from_array(array, name))
            nodes.append(helper.make_node("QuantizeLinear", [node.input[0], scale, zero], [values], name=node.name))
        else:
            nodes.append(_to_float(node, uses, made, vectors) if node.op_type == "MatMulInteger" else node)
    replaced = {node.output[0] for node in nodes if node.op_type == "MatMulIntegerToFloat"}
    del graph.node[:]
    # What made these outputs before: a Mul, or the Add of a bias behind it.
    graph.node.extend(node for node in nodes if node.op_type not in ("Mul", "Add") or node.output[0] not in replaced)
    declare(model)
    prune(graph)


def _to_float(node: Any, uses: dict[str, list[Any]], made: dict[str, Any], vectors: set[str]) -> Any:
    """Mul(Cast(MatMulInteger(x, w)), Mul(x's scale, w's scale)) and the bias added to it, if one is, as one node.

    vectors: names of constants that a bias may be.
    """
    from onnx import helper

    values, weights, *zeros = node.input
    (cast,) = uses[node.output[0]]
    (result,) = uses[cast.output[0]]
    scales = made[next(name for name in result.input if name != cast.output[0])].input
    inputs = [values, weights, *scales, *zeros]
    after = uses.get(result.output[0], [])
    if len(zeros) == 2 and len(after) == 1 and after[0].op_type == "Add":
        (result,) = after if (bias := [name for name in after[0].input if name in vectors]) else (result,)
        inputs += bias
    return helper.make_node("MatMulIntegerToFloat", inputs, [result.output[0]], name=node.name, domain="com.microsoft")


def _grid(low: float, high: float) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]:
    """Scale and zero point of 256 steps from low to high, with a step at zero itself."""
    scale = np.float32((high - low) / 255) or np.float32(1)
    return np.array(scale, dtype=np.float32), np.array(np.clip(np.rint(-low / scale), 0, 255), dtype=np.uint8)
