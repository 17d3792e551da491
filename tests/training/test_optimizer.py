"""Learning rate and weight decay."""

from __future__ import annotations

import pytest
import torch

from mlops.training.optimizer import adamw, factor, set_rate


def test_the_rate_rises_then_falls() -> None:
    assert [factor(place, 0.2) for place in (0, 0.1, 0.2, 0.6, 1.0)] == pytest.approx([0, 0.5, 1, 0.5, 0])
    assert factor(0.0, 0.0) == 1
    assert factor(0.5, 1.0) == 0.5
    assert factor(1.0, 1.0) == 1


def test_biases_and_norms_are_not_decayed() -> None:
    model = torch.nn.Sequential(torch.nn.Embedding(4, 3), torch.nn.Linear(3, 2), torch.nn.LayerNorm(2))
    for value in model[0].parameters():
        value.requires_grad_(False)
    decayed, plain = adamw(model, 1e-3, 0.5).param_groups
    assert [value.shape for value in decayed["params"]] == [(2, 3)]
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.5, 0.0)
    assert len(plain["params"]) == 3
    assert decayed["fused"] is True


def test_the_rate_is_set_everywhere() -> None:
    optimizer = adamw(torch.nn.Linear(2, 2), 1e-3, 0.0)
    set_rate(optimizer, 0.25)
    assert [group["lr"] for group in optimizer.param_groups] == [0.25, 0.25]
