"""A fine-tuned torch model as one ONNX file with a fused graph."""

from __future__ import annotations

import logging
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mlops.compression.first_token import first_token_only
from mlops.compression.graph import load, save
from mlops.compression.heads import drop_silent
from mlops.compression.unfuse import take_apart

log = logging.getLogger("evergreen")

OPSET = 17
_FUSED = ("Attention", "MultiHeadAttention", "SkipLayerNormalization", "LayerNormalization", "BiasGelu", "Gelu")
# What is left in a graph where a fusion was not found, and which one.
_UNFUSED = {"Softmax": "attention", "Erf": "Gelu", "ReduceMean": "LayerNormalization"}


def export(model: Any, path: Path, inputs: Sequence[str]) -> dict[str, int]:
    """Writes a transformers classifier, loaded with eager attention, as fp32 ONNX; returns how many fusions were found.

    The graph takes `inputs`, int64 [batch, length], both axes free, and gives "logits", float32 [batch, labels].
    Where the fusions do not know the architecture the plain graph is written: slower, equally right.
    """
    trace(model, path, inputs)
    try:
        found = fuse(path, model.config)
    except Exception as error:  # the optimizer asserts on graphs that it does not expect; the plain one still works
        log.warning("export: the graph could not be optimised (%s: %s); it stays plain", type(error).__name__, error)
        return {}
    if spare(path, _example(inputs, model.config)):
        log.info("export: the last layer computes the first token alone")
    layers = getattr(model.config, "num_hidden_layers", 0)
    attention = found.get("Attention", 0) + found.get("MultiHeadAttention", 0)
    if attention < layers:
        log.warning("export: attention fused in %d of %d layers; inference will be slower", attention, layers)
    elif lost := [f"{name} in {count} places" for name, count in unfused(path).items()]:
        log.warning("export: not fused: %s; inference will be slower", ", ".join(lost))
    log.info("export: fused %s", ", ".join(f"{name} {count}" for name, count in found.items()) or "nothing")
    return found


def spare(path: Path, arrays: dict[str, Any]) -> bool:
    """Rewrites the file as `first_token_only` does, where that is possible and it answers an example as before; whether."""
    import numpy as np
    import onnxruntime

    model = load(path)
    if not first_token_only(model):
        return False
    before, after = (
        onnxruntime.InferenceSession(each, providers=["CPUExecutionProvider"]).run(["logits"], arrays)[0]
        for each in (path.read_bytes(), model.SerializeToString())
    )
    if not np.allclose(before, after, rtol=1e-4, atol=1e-4):
        log.warning(
            "export: a shorter last layer answers otherwise (by %g); it stays whole", np.abs(before - after).max()
        )
        return False
    save(model, path)
    return True


def unfused(path: Path) -> dict[str, int]:
    """Which fusions a file's graph lacks, and in how many places."""
    counts = Counter(_UNFUSED[node.op_type] for node in load(path).graph.node if node.op_type in _UNFUSED)
    return dict(counts)


def trace(model: Any, path: Path, inputs: Sequence[str]) -> None:
    """Writes the graph as torch traces it."""
    import torch

    class Logits(torch.nn.Module):  # type: ignore[misc]
        """Positional inputs in, logits out: what an ONNX graph looks like."""

        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, *values: Any) -> Any:
            return self.model(**dict(zip(inputs, values, strict=True))).logits

    example = {name: torch.from_numpy(array) for name, array in _example(inputs, model.config).items()}
    axes: dict[str, dict[int, str]] = {name: {0: "batch", 1: "length"} for name in inputs}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        # dynamo=False and eager attention give the graph that onnxruntime's optimizer knows.
        # eval() on the wrapper, not only on the model: the exporter restores the wrapper's mode on both.
        torch.onnx.export(
            Logits().eval(),
            tuple(example[name] for name in inputs),
            str(path),
            input_names=list(inputs),
            output_names=["logits"],
            dynamic_axes=axes | {"logits": {0: "batch"}},
            opset_version=OPSET,
            dynamo=False,
            external_data=False,
        )


def fuse(path: Path, config: Any) -> dict[str, int]:
    """Rewrites the file with onnxruntime's transformer fusions; returns their numbers, those found only.

    Heads that pruning silenced are cut out ("silent heads" tells how many); what a processor computes faster in parts is
    taken apart again (mlops.compression.unfuse).
    """
    from onnxruntime.transformers import optimizer
    from onnxruntime.transformers.fusion_options import FusionOptions

    options = FusionOptions("bert")
    options.enable_embed_layer_norm = False  # it would hide the embedding tables that int8 shrinks
    with hushed():
        optimised = optimizer.optimize_model(
            str(path),
            model_type="bert",
            num_heads=int(getattr(config, "num_attention_heads", 0) or 0),
            hidden_size=int(getattr(config, "hidden_size", 0) or 0),
            optimization_options=options,
            opt_level=0,
        )
        counts: dict[str, int] = optimised.get_fused_operator_statistics()
        counts["silent heads"] = drop_silent(optimised.model)
        take_apart(optimised.model)
        optimised.save_model_to_file(str(path))
    return {name: counts[name] for name in (*_FUSED, "silent heads") if counts.get(name)}


@contextmanager
def hushed() -> Iterator[None]:
    """Keeps onnxruntime's tools quiet: they write every node that they touch to loggers of many names, the root's too."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def _example(inputs: Sequence[str], config: Any) -> dict[str, Any]:
    """Two rows of 8 tokens, the second one padded: a graph traced without padding may leave the mask out."""
    import numpy as np

    ids = np.full((2, 8), _some_token(config), dtype=np.int64)
    ids[0, 1::2] = _some_token(config, 2)
    mask = np.ones_like(ids)
    mask[1, 5:] = 0
    arrays = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
    return {name: arrays[name] for name in inputs}


def _some_token(config: Any, number: int = 1) -> int:
    """The first, second, … token id that is not the padding's: models such as RoBERTa count positions by it."""
    pad = getattr(config, "pad_token_id", None) or 0
    return [token for token in range(number + 1) if token != pad][number - 1]
