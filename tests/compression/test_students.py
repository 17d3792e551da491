"""The entry: a folder of the teacher's form with fewer numbers, better than the raw cut, the same every time."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from teachers import SECTION, exported, logits, loss, numbers, opened, set_up, teacher

from mlops.compression.students import shrink, student
from mlops.serving.package import read_package
from mlops.training.predictor import TorchPredictor


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("students")


def made(source: Path, target: Path, kind: str, **changes: object) -> dict:
    package = read_package(source)
    setting, rows, validation = set_up(source, package)
    values = {"keep": 0.5, "metric": setting.metric, "epochs": 2, "seed": 5} | changes
    keep, metric, epochs, seed = (values.pop(name) for name in ("keep", "metric", "epochs", "seed"))
    return student(source, target, kind, keep, rows, validation, SECTION, metric, epochs, seed, **values)


@pytest.mark.parametrize("kind", ["pruned", "student"])
@pytest.mark.parametrize("base", ["bert", "distilbert"])
def test_a_folder_that_is_smaller_and_better_than_the_raw_cut(
    place: Path, tmp_path: Path, kind: str, base: str
) -> None:
    source, target = teacher(place, base), tmp_path / "small"
    done = made(source, target, kind)
    assert {path.name for path in target.iterdir()} == {
        "config.json", "model.safetensors", "tokenizer.json", "package.json", "training.json"
    }  # fmt: skip
    setting, rows, validation = set_up(source, read_package(source))
    model, raw = opened(target), opened(source)
    assert done["parameters_before"] == numbers(raw)
    assert done["parameters"] == numbers(model) < numbers(raw)
    assert (done["layers"], done["inner_size"]) == ((4, 32) if kind == "pruned" else (2, 64))
    shrink(raw, kind, 0.5, rows, setting)
    assert loss(model, validation, setting) < loss(raw, validation, setting)
    assert [epoch["epoch"] for epoch in done["epochs"]] == [1, 2]
    assert max(epoch["metric"] for epoch in done["epochs"]) > 0.9
    assert exported(target, tmp_path / "model.onnx")["Attention"] == done["layers"]


def test_the_package_is_the_teachers_with_a_temperature_of_its_own(place: Path, tmp_path: Path) -> None:
    source = teacher(place)
    made(source, tmp_path / "small", "student")
    ours, theirs = read_package(tmp_path / "small"), read_package(source)
    told = json.loads((tmp_path / "small" / "training.json").read_text())
    assert ours == theirs.model_copy(update={"temperature": told["temperature"]})
    assert told["temperature"] != 1
    assert (tmp_path / "small" / "tokenizer.json").read_bytes() == (source / "tokenizer.json").read_bytes()
    assert np.stack(TorchPredictor(tmp_path / "small").logits(["badoki lu me", "suteri"])).shape == (2, 3)


@pytest.mark.parametrize("kind", ["pruned", "student"])
def test_the_same_bytes_every_time_and_others_for_another_seed(place: Path, tmp_path: Path, kind: str) -> None:
    source = teacher(place)
    for name, seed in (("one", 5), ("two", 5), ("three", 6)):
        made(source, tmp_path / name, kind, seed=seed)
    digests = {
        name: [hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted((tmp_path / name).iterdir())]
        for name in ("one", "two", "three")
    }
    assert digests["one"] == digests["two"] != digests["three"]


@pytest.mark.parametrize("kind", ["pruned", "student"])
@pytest.mark.parametrize(
    "key", ["token-classification", "text-classification:multi", "text-classification:ordinal", "text-ranking"]
)
def test_every_task_has_students(place: Path, tmp_path: Path, key: str, kind: str) -> None:
    source = teacher(place, "bert", key)
    done = made(source, tmp_path / "small", kind)
    setting, _, validation = set_up(source, read_package(source))
    found, wanted = (logits(opened(folder), validation, setting) for folder in (tmp_path / "small", source))
    if key.endswith("multi"):
        assert ((found > 0) == (wanted > 0)).mean() > 0.9
    else:
        assert (found.argmax(axis=1) == wanted.argmax(axis=1)).mean() > 0.85
    assert done["epochs"][-1]["metric"] is not None


def test_unlabelled_texts_are_learned_too(place: Path, tmp_path: Path) -> None:
    source = teacher(place)
    done = made(source, tmp_path / "small", "student", unlabelled=["bada kiki", "me na po"])
    assert done["epochs"][0]["rows"] == 202


def test_another_kind_is_refused(place: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"kind is 'thin'; allowed: pruned, student"):
        made(teacher(place), tmp_path / "small", "thin")
    assert not (tmp_path / "small").exists()
