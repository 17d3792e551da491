"""Attention heads that matter least: silenced in the torch model, cut out of its ONNX graph.

A transformers config gives every layer the same heads, each hidden_size / num_attention_heads wide: a torch folder with
fewer heads cannot be loaded. So a head is silenced: what it reads of values and what reads it are zero. Its gradients are
zero then too, and weight decay leaves zero alone: training after it never wakes it. A fused graph takes any number of heads
per layer, and there silent ones go, which changes no answer.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mlops.tasks.base import Examples
from mlops.training.batches import by_length
from mlops.training.layers import layers
from mlops.training.losses import tensors
from mlops.training.setting import Setting

log = logging.getLogger("evergreen")

Floats = npt.NDArray[np.float64]

_ROWS = 512  # of train, spread over all, that importance is found by


class Attention(NamedTuple):
    """A layer's attention: the torch.nn.Linear that gives all heads' values and the one that reads all heads."""

    values: Any
    reads: Any


def silence(model: Any, rows: Examples, setting: Setting, keep: float) -> list[int]:
    """Silences heads in place; returns how many are left per layer: `keep` of all, at least one each.

    Layers lose different numbers of them: the importances of a layer's heads are divided by their norm and all heads
    compared (Michel et al., "Are Sixteen Heads Really Better than One?", NeurIPS 2019). Raises ValueError for a share that
    is not above 0 and up to 1, and for an architecture whose layers are not plain self-attention.
    """
    if not 0 < keep <= 1:
        raise ValueError(f"keep is {keep:g}; allowed is above 0, up to 1")
    count = int(model.config.num_attention_heads)
    found = np.stack([each / max(float(np.linalg.norm(each)), 1e-30) for each in importance(model, rows, setting)])
    # The best head of each layer comes before all others. A stable sort: of equals the first ones stay.
    found[np.arange(len(found)), found.argmax(axis=1)] = np.inf
    left = max(len(found), round(found.size * keep))
    chosen = np.zeros(found.size, dtype=bool)
    chosen[np.argsort(-found.ravel(), kind="stable")[:left]] = True
    alive = chosen.reshape(found.shape)
    for attention, kept in zip(attentions(model), alive, strict=True):
        _silence(attention, np.flatnonzero(~kept), count)
    numbers = [int(kept.sum()) for kept in alive]
    log.info("prune: %s of %d heads left in the layers", ", ".join(map(str, numbers)), count)
    return numbers


def attentions(model: Any) -> list[Attention]:
    """The attention of each layer; ValueError where a layer has not exactly four square products, one of them for values."""
    import torch

    place, _ = layers(model)
    hidden = int(getattr(model.config, "hidden_size", 0))
    found = []
    for number, layer in enumerate(model.get_submodule(place) if place else ()):
        square = [
            (name.rpartition(".")[2], module)
            for name, module in layer.named_modules()
            if isinstance(module, torch.nn.Linear) and module.in_features == module.out_features == hidden
        ]
        values = [module for name, module in square if name.startswith("v")]
        if len(square) != 4 or len(values) != 1:
            names = ", ".join(name for name, _ in square) or "none"
            raise ValueError(
                f"{type(model).__name__} cannot lose heads: layer {number} has the {hidden} × {hidden} products {names}; "
                "allowed are four: queries, keys, values, and what reads them"
            )
        found.append(Attention(values[0], square[-1][1]))
    if not found:
        raise ValueError(f"{type(model).__name__} cannot lose heads: it has no list of layers")
    return found


def importance(model: Any, rows: Examples, setting: Setting) -> list[Floats]:
    """Per layer how much the loss would change without each head, [heads]: |output × gradient|, summed over a row's tokens
    within the bars, over the rows outside of them: the first term of a Taylor series (Michel et al., 2019)."""
    import torch

    chosen = (
        np.unique(np.linspace(0, len(rows) - 1, min(len(rows), _ROWS)).round().astype(int)).tolist() if rows else []
    )
    readers, count = [attention.reads for attention in attentions(model)], int(model.config.num_attention_heads)
    sums, seen = [np.zeros(count) for _ in readers], []
    hooks = [reader.register_forward_pre_hook(lambda _, given: seen.append(given[0])) for reader in readers]
    model.to(setting.device.name).eval()
    try:
        for batch in by_length([rows.lengths[row] for row in chosen], setting.train.batch_tokens):
            seen.clear()
            inputs, targets = tensors(rows, [chosen[position] for position in batch], setting)
            losses, _ = setting.task.losses(model(**inputs).logits, targets, setting.rules)
            gradients = torch.autograd.grad(losses.sum(), seen)
            for total, outputs, gradient in zip(sums, seen, gradients, strict=True):
                change = (outputs.detach() * gradient).unflatten(-1, (count, -1)).sum(dim=(1, 3)).abs().sum(dim=0)
                np.add(total, change.double().cpu().numpy(), out=total)
    finally:
        for hook in hooks:
            hook.remove()
    model.to("cpu")
    return sums


def _silence(attention: Attention, heads: Sequence[int] | npt.NDArray[np.int64], count: int) -> None:
    import torch

    values, reads = attention
    size = values.out_features // count
    with torch.no_grad():
        for head in heads:
            own = slice(int(head) * size, (int(head) + 1) * size)
            values.weight[own] = 0
            reads.weight[:, own] = 0
            if values.bias is not None:
                values.bias[own] = 0


def drop_silent(model: Any) -> int:
    """Cuts silent heads out of the fused Attention nodes of an onnx.ModelProto in place; returns how many went.

    Silent: the product that alone reads the node has zeros for the head. One head stays where all are. The answers stay
    the same; nodes with other widths for queries or keys, or with more inputs than a mask, are left alone.
    """
    from mlops.compression.graph import prune, readers

    graph, gone = model.graph, 0
    matrices, uses = {entry.name: entry for entry in graph.initializer}, readers(model.graph)
    for node in graph.node:
        if node.op_type != "Attention" or any(node.input[4:]) or _attribute(node, "qkv_hidden_sizes"):
            continue
        after = uses.get(node.output[0], [])
        plain = len(after) == 1 and after[0].op_type == "MatMul" and after[0].input[0] == node.output[0]
        if plain and all(name in matrices for name in (*node.input[1:3], after[0].input[1])):
            gone += _narrow(graph, node, after[0], matrices)
    if gone:
        prune(graph)
        log.info("export: %d silent heads cut out", gone)
    return gone


def _narrow(graph: Any, node: Any, reader: Any, matrices: dict[str, Any]) -> int:
    """One node without its silent heads; how many they were. Constants may be shared: the node gets its own."""
    from onnx import numpy_helper

    weights, bias, reads = (numpy_helper.to_array(matrices[name]) for name in (*node.input[1:3], reader.input[1]))
    count = int(_attribute(node, "num_heads"))
    size = len(reads) // count
    alive = np.flatnonzero(reads.reshape(count, -1).any(axis=1))
    alive = alive if len(alive) else np.zeros(1, dtype=np.int64)
    if len(alive) == count:
        return 0
    columns = (alive[:, None] * size + np.arange(size)).ravel()
    three = np.concatenate([part * count * size + columns for part in range(3)])  # queries, keys, values in one
    for owner, position, values in ((node, 1, weights[:, three]), (node, 2, bias[three]), (reader, 1, reads[columns])):
        name = f"{owner.name}.heads.{position}"
        graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        owner.input[position] = name
    next(attribute for attribute in node.attribute if attribute.name == "num_heads").i = len(alive)
    return count - len(alive)


def _attribute(node: Any, name: str) -> Any:
    from onnx import helper

    found = [helper.get_attribute_value(attribute) for attribute in node.attribute if attribute.name == name]
    return found[0] if found else None
