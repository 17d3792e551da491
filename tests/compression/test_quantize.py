"""int8: smaller, nearly the same answers, no table or product forgotten."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tiny import tiny_models, tiny_rows

from mlops.compression.quantize import nodes, quantize
from mlops.compression.tables import rows_to_int8
from mlops.serving.runtime import Runtime

TEXTS = [row["text"] for row in tiny_rows(150, seed=5)]


def test_a_row_is_off_by_at_most_half_its_scale() -> None:
    table = np.random.default_rng(0).normal(size=(50, 16)).astype(np.float32)
    table[7] *= 1000
    table[9] = 0
    values, scale = rows_to_int8(table)
    assert values.dtype == np.int8
    assert scale.shape == (50, 1)
    assert (np.abs(values * scale - table) <= scale / 2 * 1.001).all()
    assert not (values[9] * scale[9]).any()
    assert np.abs(values).max() == 127


@pytest.mark.parametrize("reduce_range", [False, True])
def test_int8_agrees_with_fp32(tmp_path: Path, reduce_range: bool) -> None:
    source = tiny_models()["fp32"]
    for name in ("tokenizer.json", "package.json"):
        (tmp_path / name).write_bytes((source / name).read_bytes())
    counts = quantize(source / "model.onnx", tmp_path / "model.onnx", reduce_range, min_table=0)
    # Two layers of four products, attention's three in one, but in the last that of queries apart; word, position, type tables.
    assert counts == {"products": 9, "tables": 3, "reduced_range": int(reduce_range)}
    before, after = (np.stack(Runtime.load(folder, threads=1).logits(TEXTS)) for folder in (source, tmp_path))
    assert (before.argmax(axis=1) == after.argmax(axis=1)).mean() > 0.95
    assert np.abs(before - after).max() > 0  # it is another model, not a copy


def test_the_graph_holds_int8_where_it_should(tmp_path: Path) -> None:
    source = tiny_models()["fp32"] / "model.onnx"
    quantize(source, tmp_path / "model.onnx", False, min_table=0)
    model = onnx.load(str(tmp_path / "model.onnx"))
    kinds = Counter(node.op_type for node in model.graph.node)
    assert kinds["QAttention"] == 1
    assert kinds["MatMulInteger"] == 8
    assert "Attention" not in kinds
    large = [entry.name for entry in model.graph.initializer if entry.data_type == TensorProto.FLOAT and entry.dims[1:]]
    # What stays in floats with two axes: scales of the tables, pooler and classifier.
    sizes = {name: int(np.prod(entry.dims)) for entry in model.graph.initializer if (name := entry.name) in large}
    assert all(size <= 32 * 32 or name.endswith(".scale") for name, size in sizes.items()), sizes
    assert not any(entry.external_data for entry in model.graph.initializer)


def test_small_tables_stay_and_the_same_bytes_come_out_twice(tmp_path: Path) -> None:
    source = tiny_models()["fp32"] / "model.onnx"
    assert quantize(source, tmp_path / "one.onnx", True)["tables"] == 0
    quantize(source, tmp_path / "two.onnx", True)
    assert (tmp_path / "one.onnx").read_bytes() == (tmp_path / "two.onnx").read_bytes()


def test_a_table_that_something_else_reads_too_stays_whole(tmp_path: Path) -> None:
    table = numpy_helper.from_array(np.random.default_rng(1).normal(size=(20, 8)).astype(np.float32), "table")
    operators = [
        helper.make_node("Gather", ["table", "ids"], ["rows"], axis=0),
        helper.make_node("Transpose", ["table"], ["turned"], perm=[1, 0]),
        helper.make_node("MatMul", ["rows", "turned"], ["logits"]),
    ]
    ids = helper.make_tensor_value_info("ids", TensorProto.INT64, ["n"])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 20])
    graph = helper.make_graph(operators, "tied", [ids], [logits], [table])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "a.onnx")
    assert quantize(tmp_path / "a.onnx", tmp_path / "b.onnx", False, min_table=0)["tables"] == 0


def test_nodes_are_named_in_the_order_of_the_graph_and_kept_ones_stay_in_fp32(tmp_path: Path) -> None:
    source = tiny_models()["fp32"] / "model.onnx"
    names = nodes(source)
    assert [name.rpartition("layer.")[2] for name in names[:4]] == [
        "Attention_0",
        *(f"0/{part}/dense/MatMul" for part in ("attention/output", "intermediate", "output")),
    ]
    assert len(names) == 9
    counts = quantize(source, tmp_path / "some.onnx", keep=[names[0], names[3]])
    assert counts["products"] == 7
    left = {node.name: node.op_type for node in onnx.load(str(tmp_path / "some.onnx")).graph.node}
    assert (left[names[0]], left[names[3]]) == ("Attention", "MatMul")
    assert quantize(source, tmp_path / "none.onnx", keep=names)["products"] == 0


def test_a_misspelt_name_is_refused(tmp_path: Path) -> None:
    source = tiny_models()["fp32"] / "model.onnx"
    with pytest.raises(ValueError, match="keep names Attention_O; the graph's nodes are Attention_0, "):
        quantize(source, tmp_path / "model.onnx", keep=["Attention_O"])
    assert not (tmp_path / "model.onnx").exists()
