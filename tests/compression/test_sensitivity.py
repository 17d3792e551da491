"""Sensitivity: planted outlier weights are found, keeping their nodes restores the answers, and few evaluations do."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from outliers import make_outliers
from tiny import tiny_models, tiny_rows

from mlops.compression.export import export
from mlops.compression.quantize import nodes, quantize
from mlops.compression.sensitivity import layers, sensitivity, weight_errors
from mlops.serving.package import read_package
from mlops.serving.runtime import Runtime
from mlops.tasks import get
from mlops.training.models import load_model

TEXTS = [row["text"] for row in tiny_rows(90, seed=5)]
BEHIND = [f"/model/bert/encoder/layer.{number}/attention/output/dense/MatMul" for number in (0, 1)]


class Asker:
    """Packages that differ in their model.onnx only; counts what it is asked."""

    def __init__(self, torch_folder: Path, folder: Path):
        folder.mkdir()
        for name in ("tokenizer.json", "package.json"):
            shutil.copyfile(torch_folder / name, folder / name)
        package = read_package(torch_folder)
        model = load_model(torch_folder, get(package.task), package.labels, attention="eager").eval()
        self.source = folder.parent / "fp32.onnx"
        export(model, self.source, package.inputs)
        self._folder, self.asked = folder, 0

    def __call__(self, path: Path) -> np.ndarray[Any, Any]:
        self.asked += 1
        shutil.copyfile(path, self._folder / "model.onnx")
        return np.stack(Runtime.load(self._folder, threads=1).logits(TEXTS))

    def int8(self, keep: list[str]) -> np.ndarray[Any, Any]:
        target = self.source.with_name("int8.onnx")
        quantize(self.source, target, min_table=0, keep=keep)
        return self(target)


def broken(folder: Path, everywhere: bool = False) -> Asker:
    return Asker(make_outliers(tiny_models()["torch"], folder / "torch", everywhere=everywhere), folder / "package")


def flips(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> float:
    return float((one.argmax(axis=1) != other.argmax(axis=1)).mean())


def test_planted_outliers_change_no_answer_in_fp32(tmp_path: Path) -> None:
    before = np.stack(Runtime.load(tiny_models()["fp32"], threads=1).logits(TEXTS))
    for name, everywhere in (("some", False), ("all", True)):
        (tmp_path / name).mkdir()
        asker = broken(tmp_path / name, everywhere)
        assert flips(asker(asker.source), before) < 0.02


def test_the_broken_nodes_come_first_and_keeping_them_restores_the_answers(tmp_path: Path) -> None:
    asker = broken(tmp_path)
    reference, names = asker(asker.source), nodes(asker.source)
    assert flips(asker.int8([]), reference) > 0.3
    found = sensitivity(asker.source, names, asker, reference)
    assert {name for name, _ in found[:2]} == set(BEHIND)
    assert [moved for _, moved in found] == sorted((moved for _, moved in found), reverse=True)
    assert sorted(name for name, _ in found) == sorted(names)
    assert found[1][1] > 100 * found[2][1]
    kept = asker.int8([name for name, _ in found[:2]])
    assert flips(kept, reference) == 0
    assert np.abs(kept - reference).max() < 0.5 < np.abs(asker.int8(BEHIND[:1]) - reference).max()


def test_where_every_product_is_broken_no_half_of_them_restores_the_answers(tmp_path: Path) -> None:
    asker = broken(tmp_path, everywhere=True)
    reference, names = asker(asker.source), nodes(asker.source)
    found = [name for name, _ in sensitivity(asker.source, names, asker, reference)]
    for count in (0, 1, 2, 4):
        assert flips(asker.int8(found[:count]), reference) > 0.3, count
    assert flips(asker.int8(found), reference) == 0


def test_layers_come_first_and_only_the_worst_node_by_node(tmp_path: Path) -> None:
    asker = broken(tmp_path)
    reference, names = asker(asker.source), nodes(asker.source)
    asker.asked = 0
    found = dict(sensitivity(asker.source, names, asker, reference))
    assert asker.asked == 2 + 4  # two layers, and the four nodes of the worse one
    assert found[BEHIND[0]] > 0.9 * max(found.values())


def test_weights_alone_tell_of_outliers(tmp_path: Path) -> None:
    asker = broken(tmp_path)
    errors = weight_errors(asker.source)
    assert list(errors) == nodes(asker.source)
    assert sorted(errors, key=lambda name: -errors[name])[:2] in (BEHIND, BEHIND[::-1])
    others = [error for name, error in errors.items() if name not in BEHIND]
    assert 10 * max(others) < min(errors[name] for name in BEHIND)


def test_names_that_the_graph_has_not_are_refused() -> None:
    source = tiny_models()["fp32"] / "model.onnx"
    with pytest.raises(ValueError, match="Attention_7"):
        sensitivity(source, ["Attention_7"], lambda path: np.zeros(1), np.zeros(1))


def test_answers_that_are_no_numbers_are_the_most_sensitive() -> None:
    source = tiny_models()["fp32"] / "model.onnx"
    found = sensitivity(source, nodes(source)[:1], lambda path: np.array([np.nan]), np.zeros(1))
    assert [name for name, _ in found] == ["Attention_0"]
    assert found[0][1] > 1e20


def test_nodes_are_in_layers_by_their_names() -> None:
    names = ["Attention_0", "/x/layer.0/a", "/x/layer.0/b", "Attention_1", "/x/layer.1/a", "/classifier"]
    assert layers(names) == [names[:3], names[3:5], names[5:]]
    assert layers(list("abcdef")) == [list("abcd"), list("ef")]
    assert layers([]) == []
