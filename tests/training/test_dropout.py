"""Dropout from random bytes: as much, as fair and as repeatable as torch's."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny import LABELS, tiny_base
from trainings import TASK

from mlops.training.dropout import dropped, from_bytes
from mlops.training.models import load_model


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5, 0.9])
def test_the_share_and_the_mean(share: float) -> None:
    torch.manual_seed(0)
    values = torch.full((1000, 333), 2.0)
    found = dropped(values, share)
    gone = float((found == 0).float().mean())
    assert gone == pytest.approx(share, abs=1 / 512 + 4 * (share * (1 - share) / 333_000) ** 0.5)
    assert float(found.mean()) == pytest.approx(2.0, rel=0.02)
    assert found.unique().numel() == 2


def test_neighbours_are_dropped_independently() -> None:
    torch.manual_seed(1)
    gone = (dropped(torch.ones(400_000), 0.5) == 0).float() - 0.5
    for step in (1, 2, 4, 7, 8, 16, 64):  # the bytes of one drawn word are neighbours
        assert abs(float((gone[:-step] * gone[step:]).mean())) < 5 * 0.25 / 400_000**0.5


def test_nothing_and_nearly_everything() -> None:
    values = torch.randn(7)
    assert dropped(values, 0.0) is values
    assert dropped(values, 0.001) is values
    assert torch.isfinite(dropped(values, 1.0)).all()
    assert dropped(torch.zeros(0, 3), 0.5).shape == (0, 3)
    assert dropped(values.bfloat16(), 0.5).dtype == torch.bfloat16


def test_masks_follow_the_generator_and_gradients_follow_masks() -> None:
    values = torch.randn(50, 9, requires_grad=True)
    torch.manual_seed(3)
    one = dropped(values, 0.3)
    torch.manual_seed(3)
    assert torch.equal(one, dropped(values, 0.3))
    one.sum().backward()
    assert values.grad is not None
    assert torch.equal(values.grad == 0, one == 0)


@pytest.fixture
def asked() -> dict[str, torch.Tensor]:
    """Two rows, the second one padded."""
    ids = torch.tensor([[2, 5, 6, 7, 3], [2, 8, 3, 0, 0]])
    return {"input_ids": ids, "attention_mask": (ids != 0).long()}


def test_attention_without_dropout_is_torch_s_own(tmp_path: Path, asked: dict[str, torch.Tensor]) -> None:
    """What is written out gives what the kernel gives, padding masked: a share too small to drop anything is dropped."""
    model = load_model(tiny_base(tmp_path / "base"), TASK, LABELS).train()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 1e-9  # taken for dropout, rounded to none
    with torch.no_grad():
        before = model(**asked).logits
        with from_bytes(model, "cpu"):
            assert torch.allclose(model(**asked).logits, before, atol=1e-5)


def test_a_model_is_put_back_as_it_was(tmp_path: Path, asked: dict[str, torch.Tensor]) -> None:
    model = load_model(tiny_base(tmp_path / "base"), TASK, LABELS).eval()
    kinds = [type(module) for module in model.modules()]
    before = model(**asked).logits
    with from_bytes(model, "cpu"):
        assert [type(module) for module in model.modules()] != kinds
        assert model.config._attn_implementation != "sdpa"
        assert torch.allclose(model(**asked).logits, before, atol=1e-6)  # nothing is dropped in eval mode
        model.train()
        assert not torch.allclose(model(**asked).logits, model(**asked).logits, atol=1e-4)
    assert [type(module) for module in model.modules()] == kinds
    assert model.config._attn_implementation == "sdpa"


def test_a_gpu_keeps_torch_s_own(tmp_path: Path) -> None:
    model = load_model(tiny_base(tmp_path / "base"), TASK, LABELS)
    with from_bytes(model, "cuda"):
        assert model.config._attn_implementation == "sdpa"
