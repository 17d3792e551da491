"""The serving runtime: right answers for any text in any order, and a reason for every folder that it refuses."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from tiny import LABELS, tiny_models, tiny_rows

from mlops.errors import EvergreenError, StoreError, UserError
from mlops.serving.cpu import cgroup_quota, computes_bf16, saturates, threads
from mlops.serving.runtime import Runtime
from mlops.store import build_manifest

ROWS = tiny_rows(60, seed=4)
TEXTS = [row["text"] for row in ROWS]
ODD = ["", " ", "\n\t", "🙂🙂🙂", "é" * 500, "word " * 20_000, "a" * 50_000, "\x00\ud800", "日本語のテキスト", "\u202e"]


@pytest.fixture(scope="module")
def runtime() -> Runtime:
    return Runtime.load(tiny_models()["fp32"])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy to break, without the manifest that the store put beside it."""
    copy = Path(shutil.copytree(tiny_models()["fp32"], tmp_path / "package"))
    (copy / "manifest.json").unlink(missing_ok=True)
    return copy


def test_it_predicts_the_labels(runtime: Runtime) -> None:
    answers = runtime.predict(TEXTS)
    right = np.mean([answer["label"] == row["label"] for answer, row in zip(answers, ROWS, strict=True)])
    assert right > 0.9
    assert runtime.labels == LABELS
    assert runtime.variant == "fp32"
    assert runtime.package["max_length"] == 24
    assert list(answers[0]["scores"]) == list(LABELS)
    json.dumps(answers)


def test_the_order_and_the_company_of_a_text_do_not_matter(runtime: Runtime) -> None:
    together = np.stack(runtime.logits(TEXTS))
    assert together.dtype == np.float32
    np.testing.assert_allclose(runtime.logits(TEXTS[::-1])[::-1], together, atol=1e-5)
    np.testing.assert_allclose(np.vstack([runtime.logits([text]) for text in TEXTS]), together, atol=1e-5)


def test_int8_keeps_the_labels_whatever_the_company() -> None:
    # The range of int8 activations is taken per call, so that logits may move a little with the other texts.
    runtime = Runtime.load(tiny_models()["int8"])
    together, alone = runtime.predict(TEXTS), [runtime.predict([text])[0] for text in TEXTS]
    same = [one["label"] == other["label"] for one, other in zip(together, alone, strict=True)]
    assert np.mean(same) > 0.95


@pytest.mark.parametrize("variant", ["fp32", "int8"])
def test_odd_texts(variant: str) -> None:
    runtime = Runtime.load(tiny_models()[variant])
    answers = runtime.predict([*ODD, *TEXTS[:5]])
    assert len(answers) == len(ODD) + 5
    for answer in answers:
        assert answer["label"] in LABELS
        assert np.isfinite(list(answer["scores"].values())).all()
        assert sum(answer["scores"].values()) == pytest.approx(1)


def test_no_texts_and_one_string(runtime: Runtime) -> None:
    assert runtime.predict([]) == []
    assert runtime.logits([]) == []
    with pytest.raises(TypeError, match="a list of texts"):
        runtime.predict("one text")


def test_several_threads_at_once(runtime: Runtime) -> None:
    expected = runtime.logits(TEXTS)
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda _: runtime.logits(TEXTS), range(12)):
            np.testing.assert_allclose(found, expected, atol=1e-5)


def test_it_needs_neither_torch_nor_transformers() -> None:
    code = (
        "import sys; from pathlib import Path; from mlops.serving.runtime import Runtime\n"
        f"print(Runtime.load(Path({str(tiny_models()['int8'])!r})).predict(['x'])[0]['label'])\n"
        "print(sorted(name for name in ('torch', 'transformers', 'mlflow', 'pandas', 'onnx') if name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    label, modules = done.stdout.splitlines()
    assert label in LABELS
    assert modules == "[]"


def test_a_manifest_is_held_to(folder: Path) -> None:
    (folder / "manifest.json").write_text(json.dumps(build_manifest(folder)))
    assert Runtime.load(folder).labels == LABELS
    with (folder / "tokenizer.json").open("a") as file:
        file.write(" ")
    with pytest.raises(StoreError, match=r"tokenizer\.json has sha256"):
        Runtime.load(folder)
    (folder / "manifest.json").write_text("[]")
    with pytest.raises(UserError, match="is not a manifest"):
        Runtime.load(folder)


DIGEST = "0" * 64


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[" * 100_000,
        '{"files": 1}',
        '{"files": {"a": 1}}',
        '{"files": {"a": {"size": 1}}}',
        json.dumps({"files": {"a": {"sha256": DIGEST}}}),
        json.dumps({"files": {"a\0b": {"sha256": DIGEST, "size": 1}}}),
        json.dumps({"files": {"a\ud800": {"sha256": DIGEST, "size": 1}}}),
        json.dumps({"files": {"../../etc/passwd": {"sha256": DIGEST, "size": 1}}}),
        json.dumps({"files": {"a" * 5000: {"sha256": DIGEST, "size": 1}}}),
    ],
)
def test_a_manifest_that_is_none_is_refused(folder: Path, text: str) -> None:
    (folder / "manifest.json").write_text(text)
    with pytest.raises(EvergreenError) as caught:
        Runtime.load(folder)
    assert isinstance(caught.value, (UserError, StoreError))
    assert str(folder) in str(caught.value)


def test_links_in_a_circle_are_refused(folder: Path) -> None:
    (folder / "model.onnx").unlink()
    (folder / "model.onnx").symlink_to(folder / "other.onnx")
    (folder / "other.onnx").symlink_to(folder / "model.onnx")
    with pytest.raises(UserError, match=r"model\.onnx"):
        Runtime.load(folder)


@pytest.mark.parametrize("name", ["package.json", "tokenizer.json", "model.onnx"])
def test_a_missing_or_broken_file_is_named(folder: Path, name: str) -> None:
    (folder / name).write_bytes(b"nonsense")
    with pytest.raises(UserError, match=name):
        Runtime.load(folder)
    (folder / name).unlink()
    with pytest.raises(UserError, match=f"has no {name}"):
        Runtime.load(folder)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"format": 2}, "format"),
        ({"labels": []}, "labels"),
        ({"labels": ["a", "a", "b"]}, "a label is listed twice"),
        ({"labels": ["a", "b"]}, "gives 3 logits, its package.json lists 2 labels"),
        ({"inputs": ["input_ids"]}, "input_ids and attention_mask are needed"),
        ({"inputs": ["input_ids", "attention_mask"]}, "takes .*token_type_ids.*package.json says"),
        ({"max_length": None}, "max_length"),
        ({"max_length": 10**9}, "max_length"),
        ({"max_length": 300}, "cannot answer a question of 300 tokens, "),
        ({"pad_id": 2**40}, "pad_id"),
        ({"pad_id": 10**6}, "cannot answer a question of 24 tokens, "),
        ({"temperature": 1e-30}, "temperature"),
        ({"task": "translation"}, "no task 'translation'"),
    ],
)
def test_a_package_that_does_not_fit_is_refused(folder: Path, change: dict, reason: str) -> None:
    package = json.loads((folder / "package.json").read_text())
    (folder / "package.json").write_text(json.dumps(package | change))
    with pytest.raises(EvergreenError, match=reason) as caught:
        Runtime.load(folder)
    assert caught.value.exit_code == 2


def test_a_torch_folder_and_no_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="only ONNX packages"):
        Runtime.load(tiny_models()["torch"])
    with pytest.raises(UserError, match="is not a folder"):
        Runtime.load(tmp_path / "nowhere")


def test_threads_follow_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert threads() == 3
    monkeypatch.setenv("OMP_NUM_THREADS", "")
    assert threads() >= 1


@pytest.mark.parametrize(
    ("files", "groups", "expected"),
    [
        ({}, "0::/", None),
        ({"cpu.max": "max 100000"}, "0::/", None),
        ({"cpu.max": "150000 100000"}, "0::/", 1.5),
        ({"a/cpu.max": "400000 100000", "a/b/cpu.max": "50000 100000"}, "0::/a/b", 0.5),
        ({"a/cpu.max": "40000 100000", "a/b/cpu.max": "50000 100000"}, "0::/a/b", 0.4),
        ({"cpu/x/cpu.cfs_quota_us": "200000", "cpu/x/cpu.cfs_period_us": "100000"}, "4:cpu,cpuacct:/x", 2.0),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, "4:cpu,cpuacct:/x", None),
    ],
)
def test_the_control_groups_quota(tmp_path: Path, files: dict, groups: str, expected: float | None) -> None:
    for name, text in files.items():
        (tmp_path / "cgroup" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "cgroup" / name).write_text(text)
    (tmp_path / "own").write_text(groups)
    assert cgroup_quota(tmp_path / "cgroup", tmp_path / "own") == expected


def test_which_processors_need_the_reduced_range(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    for name, flags, expected in (("old", "fpu avx2", True), ("new", "fpu avx2 avx512_vnni", False)):
        (tmp_path / name).write_text(f"processor : 0\nflags\t\t: {flags}\n")
        assert saturates(tmp_path / name) is expected
    assert saturates(tmp_path / "none") is True
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    assert saturates(tmp_path / "other") is False


def test_bf16_is_for_processors_that_have_it_unless_somebody_says_no(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_it, without = tmp_path / "with", tmp_path / "without"
    with_it.write_text("flags\t: fpu avx512f amx_bf16 amx_tile\n")
    without.write_text("flags\t: fpu avx2 f16c\n")
    assert not computes_bf16(with_it)  # the tests' own environment says no
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA")
    assert computes_bf16(with_it)
    assert not computes_bf16(without)
    assert not computes_bf16(tmp_path / "nowhere")
