"""AdamW and its learning rate."""

from __future__ import annotations

from typing import Any


def adamw(model: Any, learning_rate: float, weight_decay: float, fused: bool = True) -> Any:
    """AdamW over the trainable weights; biases and norms (all that have one axis) are not decayed."""
    import torch

    weights = [value for value in model.parameters() if value.requires_grad]
    groups = [
        {"params": [value for value in weights if value.ndim > 1], "weight_decay": weight_decay},
        {"params": [value for value in weights if value.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=learning_rate, fused=fused)


def factor(progress: float, warmup: float) -> float:
    """Share of the learning rate at a progress of 0 to 1: linear from 0 to 1 over `warmup`, then linear down to 0."""
    if progress < warmup:
        return progress / warmup
    return (1 - progress) / (1 - warmup) if warmup < 1 else 1.0


def set_rate(optimizer: Any, rate: float) -> None:
    """Sets the learning rate of every group."""
    for group in optimizer.param_groups:
        group["lr"] = rate
