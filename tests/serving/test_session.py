"""Opening a model file that nobody has to trust: each poison is refused with its reason, whatever is cut or changed."""

from __future__ import annotations

import os
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tiny import tiny_models

from mlops.errors import UserError
from mlops.serving.onnx_file import MOST_BYTES, check_onnx
from mlops.serving.runtime import Runtime
from mlops.serving.session import check_inside, open_session

WEIGHT = numpy_helper.from_array(np.arange(6, dtype=np.float32).reshape(2, 3), "weight")


def model_of(*nodes: onnx.NodeProto, weight: onnx.TensorProto = WEIGHT, **more: object) -> onnx.ModelProto:
    """A model of x [n, 2] to logits [n, 3]."""
    graph = helper.make_graph(
        list(nodes) or [helper.make_node("MatMul", ["x", "weight"], ["logits"])],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 3])],
        [weight],
    )
    domains = sorted({"", *(node.domain for node in nodes)})
    opsets = [helper.make_opsetid(domain, 17 if not domain else 1) for domain in domains]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8, **more)  # type: ignore[arg-type]


def external(where: str) -> onnx.TensorProto:
    """A weight whose values are in another file."""
    tensor = TensorProto(name="weight", data_type=TensorProto.FLOAT, dims=[2, 3], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=where)
    return tensor


def branch(node: onnx.NodeProto, *weights: onnx.TensorProto) -> onnx.GraphProto:
    return helper.make_graph(
        [node], "branch", [], [helper.make_tensor_value_info(node.output[0], TensorProto.FLOAT, None)], list(weights)
    )


def conditional(inner: onnx.GraphProto) -> onnx.ModelProto:
    """A model with a graph in an If."""
    condition = helper.make_node("Constant", [], ["yes"], value=numpy_helper.from_array(np.array(True)))
    other = branch(helper.make_node("MatMul", ["x", "weight"], ["other"]))
    return model_of(condition, helper.make_node("If", ["yes"], ["logits"], then_branch=inner, else_branch=other))


def hidden_function() -> onnx.ModelProto:
    inner = helper.make_node("Steal", ["a"], ["b"], domain="evil")
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("evil", 1)]
    function = helper.make_function("com.microsoft", "Plain", ["a"], ["b"], [inner], opsets)
    return model_of(
        helper.make_node("MatMul", ["x", "weight"], ["y"]),
        helper.make_node("Plain", ["y"], ["logits"], domain="com.microsoft"),
        functions=[function],
    )


def training() -> onnx.ModelProto:
    model = model_of()
    model.training_info.add().algorithm.CopyFrom(model.graph)
    return model


def constant(**attribute: object) -> onnx.ModelProto:
    return model_of(
        helper.make_node("Constant", [], ["w"], **attribute),  # type: ignore[arg-type]
        helper.make_node("MatMul", ["x", "w"], ["logits"]),
    )


def sparse() -> onnx.SparseTensorProto:
    tensor = onnx.SparseTensorProto(dims=[2, 3])
    tensor.values.CopyFrom(external("v"))
    return tensor


def nested(depth: int) -> onnx.ModelProto:
    inner = branch(helper.make_node("MatMul", ["x", "weight"], ["y"]))
    for _ in range(depth):
        inner = branch(helper.make_node("If", ["yes"], ["y"], then_branch=inner, else_branch=inner))
        inner.node[0].attribute.pop()  # one branch is enough: two would double it each time
    return conditional(inner)


CUSTOM = helper.make_node("Steal", ["x"], ["logits"], domain="evil.ops")
POISONS: dict[str, tuple[Callable[[], onnx.ModelProto], str]] = {
    "external data": (lambda: model_of(weight=external("weights.bin")), "values of 'weight' are in another file"),
    "an escaping path": (lambda: model_of(weight=external("../../etc/passwd")), "values of 'weight' are in another"),
    "an absolute path": (lambda: model_of(weight=external("/etc/passwd")), "values of 'weight' are in another file"),
    "external in an attribute": (lambda: constant(value=external("w")), "in another file"),
    "external in a sparse attribute": (lambda: constant(sparse_value=sparse()), "in another file"),
    "external in a subgraph": (
        lambda: conditional(branch(helper.make_node("MatMul", ["x", "weight"], ["y"]), external("w"))),
        "in another file",
    ),
    "a custom operator": (lambda: model_of(CUSTOM), "operator 'Steal' of the domain 'evil.ops'; allowed are ''"),
    "a custom operator in a subgraph": (
        lambda: conditional(branch(helper.make_node("Steal", ["x"], ["y"], domain="evil"))),
        "operator 'Steal' of the domain 'evil'",
    ),
    "a function of its own": (hidden_function, "a function of its own"),
    "a training graph": (training, "a training graph"),
    "graphs too deep": (lambda: nested(20), "lie in each other 17 deep, allowed are 16"),
    "no graph": (onnx.ModelProto, "found 0 bytes"),
    "metadata alone": (lambda: onnx.ModelProto(ir_version=8, producer_name="x"), "holds no graph"),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.onnx"


@pytest.mark.parametrize("name", POISONS)
def test_a_poisoned_model_is_refused(path: Path, name: str) -> None:
    make, reason = POISONS[name]
    path.write_bytes(make().SerializeToString())
    with pytest.raises(UserError, match=reason) as caught:
        open_session(path, 1)
    assert str(path) in str(caught.value)


def test_a_sparse_initializer_outside_is_refused(path: Path) -> None:
    model = model_of()
    model.graph.sparse_initializer.append(sparse())
    path.write_bytes(model.SerializeToString())
    with pytest.raises(UserError, match="in another file"):
        check_onnx(path)


def test_what_stands_twice_has_to_be_allowed_twice(path: Path) -> None:
    # protobuf merges a message that stands twice: the poison may stand in either.
    clean, poisoned = model_of().SerializeToString(), model_of(CUSTOM).SerializeToString()
    for data in (clean + poisoned, poisoned + clean):
        path.write_bytes(data)
        with pytest.raises(UserError, match=r"evil\.ops"):
            check_onnx(path)


def test_subgraphs_and_fused_operators_are_allowed(path: Path) -> None:
    path.write_bytes(conditional(branch(helper.make_node("MatMul", ["x", "weight"], ["y"]))).SerializeToString())
    (logits,) = open_session(path, 1).run(["logits"], {"x": np.ones((1, 2), dtype=np.float32)})
    np.testing.assert_allclose(logits, [[3, 5, 7]])
    check_onnx(tiny_models()["fp32"] / "model.onnx")


def test_what_onnxruntime_refuses_is_a_users_error(path: Path) -> None:
    path.write_bytes(model_of(helper.make_node("NoSuchOperator", ["x"], ["logits"])).SerializeToString())
    with pytest.raises(UserError, match=r"model\.onnx cannot be loaded: .*NoSuchOperator"):
        open_session(path, 1)


@pytest.mark.parametrize("data", [b"", b"nonsense", b"{}", b"PK\x03\x04", b"\x80" * 64, b"\x00" * 64, b"\x0b\x0c"])
def test_what_is_no_model_is_refused(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"model\.onnx cannot be loaded"):
        open_session(path, 1)


def test_a_file_that_is_too_large_is_refused(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(MOST_BYTES + 1)  # a hole: it takes no room on the disk
    with pytest.raises(UserError, match=f"found {MOST_BYTES + 1} bytes"):
        check_onnx(path)


def test_a_file_of_nothing_but_small_fields_takes_no_time(path: Path) -> None:
    path.write_bytes(b"\x08\x01" * 5_000_000)
    with pytest.raises(UserError, match="more than 1000000 fields"):
        check_onnx(path)


def test_a_model_cut_off_anywhere_is_refused(path: Path) -> None:
    data = (tiny_models()["fp32"] / "model.onnx").read_bytes()
    # Behind the graph only the opsets are left: without them onnxruntime refuses it.
    for end in (1, 7, 100, len(data) // 3, len(data) // 2, len(data) - 100, len(data) - 30, len(data) - 1):
        path.write_bytes(data[:end])
        with pytest.raises(UserError, match="cannot be loaded"):
            open_session(path, 1)


def test_changed_bytes_are_read_or_refused_and_nothing_else(path: Path) -> None:
    data = model_of(*conditional(branch(helper.make_node("Identity", ["x"], ["y"]))).graph.node).SerializeToString()
    chance, refused, began = random.Random(0), 0, time.monotonic()
    for _ in range(3000):
        changed = bytearray(data)
        for _ in range(chance.randint(1, 4)):
            place = chance.randrange(len(changed))
            kind = chance.randrange(3)
            if kind == 0:
                changed[place] = chance.randrange(256)
            elif kind == 1:
                del changed[place : place + chance.randint(1, 8)]
            else:
                changed[place:place] = chance.randbytes(chance.randint(1, 8))
        path.write_bytes(changed)
        try:
            check_onnx(path)
        except UserError:
            refused += 1
    assert 300 < refused < 3000
    assert time.monotonic() - began < 60  # 2 s where nothing else runs: no change makes it read for long


@pytest.mark.parametrize("name", ["package.json", "tokenizer.json", "model.onnx"])
def test_a_link_out_of_the_package_is_refused(tmp_path: Path, name: str) -> None:
    folder = Path(shutil.copytree(tiny_models()["fp32"], tmp_path / "package"))
    (folder / name).rename(tmp_path / name)
    (folder / name).symlink_to(tmp_path / name)
    with pytest.raises(UserError, match=rf"{name} leads to .*; a package's files lie in its folder"):
        Runtime.load(folder)


def test_a_link_within_the_package_is_followed(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_models()["fp32"], tmp_path / "package"))
    (folder / "blobs").mkdir()
    (folder / "model.onnx").rename(folder / "blobs" / "1")
    (folder / "model.onnx").symlink_to(Path("blobs") / "1")
    (tmp_path / "current").symlink_to(folder)
    assert Runtime.load(tmp_path / "current").labels


def test_names_that_lead_out_and_what_is_no_plain_file_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")  # reading it would wait for ever
    for name, reason in (("../x", "leads to"), ("/etc/passwd", "leads to"), ("pipe", "no plain file")):
        with pytest.raises(UserError, match=reason):
            check_inside(tmp_path, [name])
    check_inside(tmp_path, ["not-there"])
