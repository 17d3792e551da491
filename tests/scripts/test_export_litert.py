"""The LiteRT export in its own environment, where somebody has made it (.venv-litert)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tiny import tiny_models

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "scripts" / "export_litert.py"
PYTHON = ROOT / ".venv-litert" / "bin" / "python"


def exported(python: str | Path, *paths: Path) -> subprocess.CompletedProcess[str]:
    command = [str(python), str(SCRIPT), *map(str, paths)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)


def test_a_folder_without_a_model_is_refused_with_what_is_missing(tmp_path: Path) -> None:
    done = exported(sys.executable, tmp_path, tmp_path / "out")
    assert done.returncode == 2
    assert "has no package.json, tokenizer.json, model.safetensors" in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(not PYTHON.exists(), reason="no .venv-litert; docs/compression.md says how to make it")
def test_both_files_answer_as_torch_does(tmp_path: Path) -> None:
    done = exported(PYTHON, tiny_models()["torch"], tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    assert {path.name for path in tmp_path.iterdir()} == {
        "model-fp32.tflite", "model-int8.tflite", "package.json", "tokenizer.json"
    }  # fmt: skip
    assert json.loads((tmp_path / "package.json").read_text())["variant"] == "litert"
    assert "fp32: " in done.stdout
    assert "int8: " in done.stdout
