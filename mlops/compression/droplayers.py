"""Students with fewer layers: some of the teacher's, evenly spread."""

from __future__ import annotations

from typing import Any

from mlops.training.layers import layers


def spread_layers(size: int, count: int) -> list[int]:
    """Which `count` of `size` layers stay: the last of each of `count` equal parts, so that the head reads what it knows.

    6 to 3 are 1, 3, 5; 12 to 6 are 1, 3, … 11 (Sanh et al., "DistilBERT", 2019, took every other; Sajjad et al., "On the
    Effect of Dropping Layers of Pre-trained Transformer Models", 2020).
    """
    if not 1 <= count <= size:
        raise ValueError(f"{count} layers are to stay; allowed is 1 to {size}, as many as the model has")
    return [(place + 1) * size // count - 1 for place in range(count)]


def drop_layers(model: Any, count: int) -> list[int]:
    """Leaves `count` layers in place, with embeddings and head; returns which they were.

    Raises ValueError for a count that the model does not have, and for an architecture whose layers are not one list that
    its config counts (encoder and decoder, or layers that share weights).
    """
    import torch

    place, size = layers(model)
    told = getattr(model.config, "num_hidden_layers", None)
    if size != told or getattr(model.config, "is_encoder_decoder", False):
        raise ValueError(
            f"{type(model).__name__} cannot lose layers: its config has {told}, its longest list is {size}"
        )
    kept = spread_layers(size, count)
    old = model.get_submodule(place)
    model.set_submodule(place, torch.nn.ModuleList([old[number] for number in kept]))
    model.config.num_hidden_layers = count
    kinds = getattr(model.config, "layer_types", None)  # of each layer, where they differ
    if isinstance(kinds, list) and len(kinds) == size:
        model.config.layer_types = [kinds[number] for number in kept]
    return kept
