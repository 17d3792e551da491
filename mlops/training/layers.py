"""Which layer of a transformers model a weight belongs to, by the names that they all share."""

from __future__ import annotations

from typing import Any


def depths(model: Any) -> dict[str, int]:
    """{weight: depth} from 0 for the embeddings over 1 to n for the encoder's layers to n + 1 for the head.

    What lies in the encoder behind its layers, a last norm say, and a pooler count as the head.
    """
    place, size = layers(model)
    found: dict[str, int] = {}
    seen_layers = False
    for name, _ in model.named_parameters():
        number = _number(name, place)
        seen_layers |= number is not None
        if number is not None:
            found[name] = number + 1
        elif is_head(model, name):
            found[name] = size + 1
        else:
            found[name] = size + 1 if seen_layers and "embed" not in name else 0
    return found


def layers(model: Any) -> tuple[str, int]:
    """(name, number) of the encoder's layers: the longest list of modules in it; ("", 0) where there is none."""
    import torch

    lists = [(len(module), name) for name, module in model.named_modules() if isinstance(module, torch.nn.ModuleList)]
    size, place = max(((size, name) for size, name in lists if not is_head(model, name)), default=(0, ""))
    return place, size


def is_head(model: Any, name: str) -> bool:
    """Whether a weight is the classifier's: outside of the encoder, or its pooler, which often is drawn at random."""
    prefix = getattr(model, "base_model_prefix", "")
    inside = bool(prefix) and hasattr(model, prefix) and name.startswith(f"{prefix}.")
    return not inside or "pooler" in name.split(".")


def _number(name: str, place: str) -> int | None:
    if not place or not name.startswith(f"{place}."):
        return None
    number = name[len(place) + 1 :].partition(".")[0]
    return int(number) if number.isdigit() else None
