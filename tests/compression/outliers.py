"""Plants outlier weights into a BERT so that int8 breaks where they are, and fp32 answers as before."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

Part = tuple[int, str]  # number of a layer, and one of PARTS
PARTS = ("attention", "attention.output", "intermediate", "output")
_DEFAULT = ((0, "attention.output"), (1, "attention.output"))
_CONSTANT = 0.25
# They cancel each other exactly, but not once they are rounded to 127 steps or to 64: then one step is left.
_CANCELLING = np.array([1024, -11, -11, -1002], dtype=np.float32) / 1024


def make_outliers(
    source: Path, target: Path, parts: Sequence[Part] | None = None, everywhere: bool = False, size: float = 16384
) -> Path:
    """A torch folder like `source` whose int8 form is broken at some products of its layers.

    Four inputs of each are made the same constant (it costs the model as many channels), and the weights that they meet
    `size` times as large as the others, so that they add up to zero. In 8 bits they no longer do, and what is left over
    drowns everything else; other weights are rounded to zero besides. A part that stays in fp32 is restored, all others
    have to be as well.

    parts: by default what mixes the heads' answers in the first two layers. everywhere: all products of the network, so
    that nothing but fp32 restores it.
    """
    from safetensors.numpy import load_file, save_file

    shutil.copytree(source, target, ignore=shutil.ignore_patterns("manifest.json"))
    path = target / "model.safetensors"
    weights = {name: np.array(array) for name, array in load_file(path).items()}
    layers = sum(name.endswith(".intermediate.dense.weight") for name in weights)
    chosen = [(layer, part) for layer in range(layers) for part in PARTS] if everywhere else parts or _DEFAULT
    for layer, part in chosen:
        _plant(weights, layer, part, size)
    save_file(weights, path, metadata={"format": "pt"})
    return target


def node_name(part: Part) -> str:
    """What the node is called in the fused graph."""
    layer, kind = part
    path = f"/model/bert/encoder/layer.{layer}/{kind.replace('.', '/')}/dense/MatMul"
    return f"Attention_{layer}" if kind == "attention" else path


def _plant(weights: dict[str, Any], layer: int, part: str, size: float) -> None:
    first = "layer.0.output.dense.weight"
    prefix = next(name for name in weights if name.endswith(f"encoder.{first}")).removesuffix(first)
    own = f"{prefix}layer.{layer}."
    if part == "attention":
        before = f"{prefix.removesuffix('encoder.')}embeddings." if layer == 0 else f"{prefix}layer.{layer - 1}.output."
        channels = _constant_channels(weights, f"{before}LayerNorm")
        for kind in ("query", "key", "value"):
            _enlarge(weights, f"{own}attention.self.{kind}", channels, size)
    elif part == "intermediate":
        channels = _constant_channels(weights, f"{own}attention.output.LayerNorm")
        _enlarge(weights, f"{own}intermediate.dense", channels, size)
    else:
        giver = "attention.self.value" if part == "attention.output" else "intermediate.dense"
        _enlarge(weights, f"{own}{part}.dense", _constant_neurons(weights, f"{own}{giver}"), size)


def _constant_channels(weights: dict[str, Any], norm: str) -> Any:
    """Makes the channels of a normalisation constant that do least."""
    gain, shift = weights[f"{norm}.weight"], weights[f"{norm}.bias"]
    channels = (np.abs(gain) + np.abs(shift)).argsort(kind="stable")[: len(_CANCELLING)]
    gain[channels], shift[channels] = 0, _CONSTANT
    return channels


def _constant_neurons(weights: dict[str, Any], dense: str) -> Any:
    """Makes the outputs of a layer constant whose weights are smallest; a weighted mean and GELU leave them so."""
    matrix, bias = weights[f"{dense}.weight"], weights[f"{dense}.bias"]
    neurons = np.abs(matrix).sum(axis=1).argsort(kind="stable")[: len(_CANCELLING)]
    matrix[neurons], bias[neurons] = 0, _CONSTANT
    return neurons


def _enlarge(weights: dict[str, Any], dense: str, channels: Any, size: float) -> None:
    matrix = weights[f"{dense}.weight"]  # [outputs, inputs]
    usual = np.abs(np.delete(matrix, channels, axis=1)).max()
    signs = np.where(np.arange(len(matrix)) % 2, -1.0, 1.0)[:, None]  # a normalisation undoes what all outputs share
    matrix[:, channels] = size * 2.0 ** np.ceil(np.log2(usual)) * signs * _CANCELLING
