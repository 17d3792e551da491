"""AdamW, its learning rate by step and by layer, and what is done to gradients before a step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from mlops.training.layers import depths


def adamw(model: Any, learning_rate: float, weight_decay: float, fused: bool = True, layer_decay: float = 1.0) -> Any:
    """AdamW over the trainable weights; biases and norms (all that have one axis) are not decayed.

    layer_decay: a weight's learning rate is this to the power of how many layers it lies below the head (Howard and
    Ruder, "Universal Language Model Fine-tuning", 2018; Clark et al., "ELECTRA", 2020): a group's "scale".
    """
    import torch

    depth = depths(model) if layer_decay != 1 else {}
    top = max(depth.values(), default=0)
    groups: dict[tuple[bool, float], list[Any]] = {}
    for name, value in model.named_parameters():
        if value.requires_grad:
            scale = layer_decay ** (top - depth.get(name, top))
            groups.setdefault((value.ndim <= 1, scale), []).append(value)
    # In an order of their own: a checkpoint keeps states by place.
    settings = [
        {"params": values, "weight_decay": 0.0 if flat else weight_decay, "scale": scale}
        for (flat, scale), values in sorted(groups.items(), key=lambda group: group[0])
    ]
    return torch.optim.AdamW(settings, lr=learning_rate, fused=fused)


def factor(progress: float, warmup: float, schedule: str = "linear") -> float:
    """Share of the learning rate at a progress of 0 to 1: linear from 0 to 1 over `warmup`, then as `schedule` says.

    linear: down to 0. cosine: half a cosine down to 0 (Loshchilov and Hutter, "SGDR", 2017). constant: stays 1.
    """
    if progress < warmup:
        return progress / warmup
    if schedule == "constant" or warmup >= 1:
        return 1.0
    left = (1 - progress) / (1 - warmup)
    return left if schedule == "linear" else (1 - math.cos(math.pi * left)) / 2


def set_rate(optimizer: Any, rate: float) -> None:
    """Sets the learning rate of every group."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("scale", 1.0)


def scale_and_clip(weights: Sequence[Any], divisor: float, most: float) -> float:
    """Divides all gradients by `divisor`, then clips their common norm to `most`; returns the norm before clipping.

    In one pass over the gradients. Nothing is changed where the norm is not finite: see to that first.
    """
    import torch

    gradients = [value.grad for value in weights if value.grad is not None]
    if not gradients:
        return 0.0
    norm = torch.nn.utils.get_total_norm(gradients)
    whole = norm.full_tensor() if hasattr(norm, "full_tensor") else norm  # a sharded gradient's norm is sharded too
    value = float(whole) / divisor
    if math.isfinite(value):
        torch._foreach_mul_(gradients, min(1.0, most / (value + 1e-6)) / divisor)
    return value
