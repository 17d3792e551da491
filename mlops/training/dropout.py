"""Dropout whose masks are random bytes: on a processor torch's own masks take a tenth of a training's time."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_ATTENTION = "evergreen_bytes"  # our attention among transformers' own


def dropped(values: Any, share: float) -> Any:
    """Dropout of a tensor on the CPU (Srivastava et al., "Dropout", JMLR 15, 2014): each number is 0 with probability
    `share`, rounded to 1/256, the others are scaled so that the mean stays. The masks follow torch's generator."""
    import torch

    gone = min(round(share * 256), 255)
    if not gone:
        return values
    count = values.numel()
    words = torch.empty(-(-count // 8), dtype=torch.int64).random_(-(2**63), None)
    kept = words.view(torch.uint8)[:count].view(values.shape) >= gone
    return values * kept.to(values.dtype).mul_(256 / (256 - gone))


@contextmanager
def from_bytes(model: Any, device: str) -> Iterator[None]:
    """Inside of it the model's dropout, that of its attention too, is ours; on a GPU, where masks cost little, torch's."""
    import torch

    if device != "cpu":
        yield
        return
    ours = _layer()
    swapped = [module for module in model.modules() if type(module) is torch.nn.Dropout]
    attention = getattr(model.config, "_attn_implementation", None)
    for module in swapped:
        module.__class__ = ours  # in its place and with its state, whoever holds it
    if attention == "sdpa":
        _register()
        model.set_attn_implementation(_ATTENTION)
    try:
        yield
    finally:
        for module in swapped:
            module.__class__ = torch.nn.Dropout
        if attention == "sdpa":
            model.set_attn_implementation(attention)


@functools.cache
def _layer() -> Any:
    import torch

    class ByteDropout(torch.nn.Dropout):  # type: ignore[misc,name-defined,unused-ignore]
        def forward(self, values: Any) -> Any:
            return dropped(values, self.p) if self.training else values

    return ByteDropout


@functools.cache
def _register() -> None:
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

    AttentionInterface.register(_ATTENTION, _attention)
    AttentionMaskInterface.register(_ATTENTION, sdpa_mask)


def _attention(
    module: Any,
    query: Any,
    key: Any,
    value: Any,
    attention_mask: Any,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    **more: Any,
) -> tuple[Any, Any]:
    """transformers' attention function: [batch, heads, length, width] each; softmax(q k / sqrt(width)) v (Vaswani et al.,
    2017), written out where something is dropped and it is plain self-attention, else torch's own."""
    import torch
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    causal = is_causal if is_causal is not None else getattr(module, "is_causal", True)
    plain = not causal and more.get("position_bias") is None and query.shape[1] == key.shape[1]
    if not dropout or not plain:
        options = {"dropout": dropout, "scaling": scaling, "is_causal": is_causal}
        found: tuple[Any, Any] = sdpa_attention_forward(module, query, key, value, attention_mask, **options, **more)
        return found
    scale = 1 / math.sqrt(query.shape[-1]) if scaling is None else scaling
    scores = (query * scale) @ key.transpose(2, 3)
    if attention_mask is not None and attention_mask.dtype == torch.bool:
        scores = scores.masked_fill(~attention_mask, torch.finfo(scores.dtype).min)
    elif attention_mask is not None:
        scores = scores + attention_mask
    weights = dropped(torch.softmax(scores, dim=-1), dropout)
    return (weights.to(value.dtype) @ value).transpose(1, 2).contiguous(), None
