"""Structured pruning: attention heads and inner neurons that matter least go, and what is left takes over from them.

Layers may lose different heads, and how many: see mlops.compression.heads. All layers lose equally many neurons, so that a
plain config describes what is left.
"""

from __future__ import annotations

import logging
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mlops.compression.heads import attentions, silence
from mlops.compression.refit import given_to, moments, refitted, spread
from mlops.tasks.base import Examples
from mlops.training.batches import by_length
from mlops.training.layers import layers
from mlops.training.losses import tensors
from mlops.training.setting import Setting

log = logging.getLogger("evergreen")

Floats = npt.NDArray[np.float64]

_ROWS = 512  # of train, spread over all, that importance is found by
_STEP = 16  # inner sizes are its multiples: what vector instructions take at once
_NAMES = ("intermediate_size", "hidden_dim")  # what configs call the inner size
_BYTES = 1 << 28  # of the matrices that a fit needs, at a time
# Architectures whose attention becomes one node of the graph: only from that a head can be cut.
_FUSED = ("bert", "camembert", "distilbert", "electra", "roberta", "xlm-roberta")


class Feed(NamedTuple):
    """A layer's feed-forward part: the torch.nn.Linear that writes its inner neurons and the one that reads them."""

    writes: Any
    reads: Any


def prune(model: Any, rows: Examples, setting: Setting, keep: float) -> None:
    """Leaves `keep` of the heads, silencing the others, and of the inner neurons; in place.

    rows: labelled ones, by whose losses both are judged. Raises ValueError for a share that is not above 0 and up to 1, and
    for an architecture that has no plain feed-forward parts; where heads cannot be cut, neurons go alone.
    """
    if not 0 < keep <= 1:
        raise ValueError(f"keep is {keep:g}; allowed is above 0, up to 1")
    feeds(model)  # refuses before anything is changed
    if getattr(model.config, "model_type", "") in _FUSED:
        prune_heads(model, rows, setting, keep)
    else:
        log.info("prune: heads of %s stay: its attention is not one node of the graph", type(model).__name__)
    prune_neurons(model, rows, setting, keep)


def prune_heads(model: Any, rows: Examples, setting: Setting, keep: float) -> list[int]:
    """Silences heads and refits what reads the others; returns how many are left per layer.

    Raises ValueError as `heads.silence` does.
    """
    import torch

    if keep == 1:
        return [int(model.config.num_attention_heads)] * len(attentions(model))
    readers = [attention.reads for attention in attentions(model)]
    before = [reader.weight.detach().clone() for reader in readers]
    known = moments(model, readers, rows, setting)
    left = silence(model, rows, setting, keep)
    for reader, weight, sums in zip(readers, before, known, strict=True):
        kept = reader.weight.detach().any(dim=0).nonzero()[:, 0]
        fitted, bias = refitted(weight, _bias(reader), kept, sums)
        with torch.no_grad():
            reader.weight[:, kept] = fitted
        if reader.bias is not None:
            reader.bias.data = bias
    return left


def prune_neurons(model: Any, rows: Examples, setting: Setting, keep: float) -> int:
    """Cuts inner neurons out and refits what reads the others; returns how many are left per layer, a multiple of 16.

    Raises ValueError where a layer has no plain feed-forward part.
    """
    name, inner = inner_size(model)
    left = min(inner, max(_STEP, round(inner * keep / _STEP) * _STEP))
    parts = feeds(model)
    if left == inner:
        return inner
    # A stable sort: of equals the first ones stay, whatever the machine.
    found = [np.sort(np.argsort(-each, kind="stable")[:left]) for each in importance(model, rows, setting)]
    at_once = max(1, _BYTES // (8 * inner * inner))
    for start in range(0, len(parts), at_once):
        group = parts[start : start + at_once]
        known = moments(model, [feed.reads for feed in group], rows, setting)
        for feed, kept, sums in zip(group, found[start:], known, strict=False):
            cut(feed, kept, sums)
    setattr(model.config, name, left)
    log.info("prune: %d of %d inner neurons left in each of %d layers", left, inner, len(parts))
    return left


def inner_size(model: Any) -> tuple[str, int]:
    """(name in the config, inner neurons of a layer); ValueError where the config has none."""
    found = [name for name in _NAMES if isinstance(getattr(model.config, name, None), int)]
    if not found:
        raise ValueError(f"{type(model).__name__} cannot be pruned: its config has none of {', '.join(_NAMES)}")
    return found[0], getattr(model.config, found[0])


def feeds(model: Any) -> list[Feed]:
    """The feed-forward part of each layer; ValueError where a layer has not exactly one that can be cut."""
    import torch

    _, inner = inner_size(model)
    place, _ = layers(model)
    found = []
    for number, layer in enumerate(model.get_submodule(place) if place else ()):
        linear = [module for module in layer.modules() if isinstance(module, torch.nn.Linear)]
        writes = [module for module in linear if module.out_features == inner]
        reads = [module for module in linear if module.in_features == inner]
        # All that has the inner size has to be cut: a norm between the two, say, would be left over.
        wide = sum(inner in value.shape for value in layer.parameters())
        if len(writes) != 1 or len(reads) != 1 or wide != 2 + (writes[0].bias is not None):
            raise ValueError(
                f"{type(model).__name__} cannot be pruned: layer {number} has {len(writes)} products that give {inner} "
                f"numbers, {len(reads)} that take as many and {wide} weights of that size; allowed are 1, 1 and 3"
            )
        found.append(Feed(writes[0], reads[0]))
    if not found:
        raise ValueError(f"{type(model).__name__} cannot be pruned: it has no list of layers")
    return found


def importance(model: Any, rows: Examples, setting: Setting) -> list[Floats]:
    """Per layer how much the loss would change without each inner neuron, [inner]: |activation × gradient| summed over a
    row's tokens within the bars, over the rows outside of them.

    The first term of a Taylor series (Molchanov et al., "Importance Estimation for Neural Network Pruning", CVPR 2019).
    """
    import torch

    chosen = spread(len(rows), _ROWS)
    readers = [feed.reads for feed in feeds(model)]
    sums = [np.zeros(reader.in_features) for reader in readers]
    model.to(setting.device.name).eval()
    with given_to(readers) as seen:
        for batch in by_length([rows.lengths[row] for row in chosen], setting.train.batch_tokens):
            seen.clear()
            inputs, targets = tensors(rows, [chosen[place] for place in batch], setting)
            losses, _ = setting.task.losses(model(**inputs).logits, targets, setting.rules)
            gradients = torch.autograd.grad(losses.sum(), seen)
            for position, (values, gradient) in enumerate(zip(seen, gradients, strict=True)):
                change = (values.detach() * gradient).sum(dim=1).abs().sum(dim=0)
                sums[position] += change.double().cpu().numpy()
    model.to("cpu")
    return sums


def cut(feed: Feed, kept: npt.NDArray[np.int64], sums: Any) -> None:
    """Leaves only the inner neurons of these positions. sums: of what is read, from `refit.moments`."""
    import torch

    places = torch.from_numpy(kept)
    writes, reads = feed
    weight, bias = refitted(reads.weight.detach(), _bias(reads), places, sums)
    writes.weight = torch.nn.Parameter(writes.weight.detach()[places].clone())
    if writes.bias is not None:
        writes.bias = torch.nn.Parameter(writes.bias.detach()[places].clone())
    reads.weight = torch.nn.Parameter(weight)
    if reads.bias is not None:
        reads.bias = torch.nn.Parameter(bias)
    writes.out_features = reads.in_features = len(kept)


def _bias(reader: Any) -> Any:
    import torch

    return torch.zeros(reader.out_features) if reader.bias is None else reader.bias.detach()
