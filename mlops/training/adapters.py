"""Which weights are trained: frozen layers, and LoRA, which is merged away again before the model is saved."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mlops.config_train import LoraSection, TrainSection
from mlops.errors import UserError
from mlops.training.layers import depths, is_head, layers


def prepare(model: Any, train: TrainSection) -> None:
    """Freezes and adapts in place as the section says. Raises UserError for layers that the model does not have."""
    if train.freeze_embeddings or train.freeze_layers:
        _freeze(model, train.freeze_layers)
    if train.lora is not None:
        _adapt(model, train.lora)


def trainable(model: Any) -> tuple[int, int]:
    """(numbers that are trained, all numbers)."""
    sizes = [(value.requires_grad, value.numel()) for value in model.parameters()]
    return sum(size for free, size in sizes if free), sum(size for _, size in sizes)


def merge(model: Any) -> None:
    """Adds the LoRA updates into their weights and takes the adapters out: a plain model again. Nothing without them."""
    if not hasattr(model, "peft_config"):
        return  # the library takes seconds to import
    from peft.tuners.tuners_utils import BaseTunerLayer

    adapted = [(name, module) for name, module in model.named_modules() if isinstance(module, BaseTunerLayer)]
    for name, module in adapted:
        module.merge(safe_merge=True)
        model.set_submodule(name, module.get_base_layer())
    del model.peft_config  # what save_pretrained would take for an adapter to be saved by itself


def _freeze(model: Any, count: int) -> None:
    _, size = layers(model)
    if count > size:
        raise UserError(f"train.freeze_layers: found {count}; allowed: 0 to {size}, the layers of the model")
    for weight, depth in depths(model).items():
        if depth <= count:
            model.get_parameter(weight).requires_grad_(False)


def _adapt(model: Any, lora: LoraSection) -> None:
    from peft import LoraConfig, inject_adapter_in_model

    frozen = {name for name, value in model.named_parameters() if not value.requires_grad}
    targets = _targets(model, lora.targets, frozen)
    options: dict[str, Any] = {"r": lora.rank, "lora_alpha": lora.alpha, "lora_dropout": lora.dropout}
    inject_adapter_in_model(LoraConfig(target_modules=targets, **options), model)
    for name, value in model.named_parameters():
        # The library freezes the head with the rest; it is new, and has to learn all it knows.
        value.requires_grad_(".lora_" in name or (is_head(model, name) and name not in frozen))


def _targets(model: Any, asked: Sequence[str] | None, frozen: set[str]) -> list[str]:
    """Names of the linear layers that are adapted; those of frozen layers are not."""
    import torch

    linear = [
        name
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and not is_head(model, name) and f"{name}.weight" not in frozen
    ]
    if asked is None:
        found = [name for name in linear if any(word in name.lower() for word in ("attention", "attn"))]
    else:
        found = [name for name in linear if any(name == end or name.endswith(f".{end}") for end in asked)]
    if not found:
        ends = sorted({name.rpartition(".")[2] for name in linear})
        wanted = "the layers of its attention" if asked is None else f"{', '.join(asked)}"
        raise UserError(f"train.lora.targets: found no linear layer for {wanted}; the model has {', '.join(ends)}")
    return found
