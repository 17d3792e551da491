"""What is left of a product's inputs takes over from those that were cut away: a least-squares fit, no training.

He et al., "Channel Pruning for Accelerating Very Deep Neural Networks", 2017; Kwon et al., "A Fast Post-Training Pruning
Framework for Transformers", 2022.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from mlops.tasks.base import Examples
from mlops.training.batches import by_length
from mlops.training.losses import tensors
from mlops.training.setting import Setting

_ROWS, _TOKENS = 512, 8192  # that a fit is made on, at most
_RIDGE = 1e-2  # of the mean square of an input: keeps the fit from following single rows


def moments(model: Any, readers: Sequence[Any], rows: Examples, setting: Setting) -> list[Any]:
    """Of what each torch.nn.Linear is given: sums over tokens of the products of its inputs by pairs, a 1 behind the inputs:
    float64 [inputs + 1, inputs + 1] each. Up to 512 rows and about 8,192 tokens, none of them padding."""
    import torch

    size = [reader.in_features + 1 for reader in readers]
    found = [torch.zeros(each, each, dtype=torch.float64) for each in size]
    chosen = _some(rows)
    model.to(setting.device.name).eval()
    with given_to(readers) as seen, torch.no_grad():
        for batch in by_length([rows.lengths[row] for row in chosen], setting.train.batch_tokens):
            seen.clear()
            inputs, _ = tensors(rows, [chosen[position] for position in batch], setting)
            model(**inputs)
            real = inputs["attention_mask"].bool()
            for total, values in zip(found, seen, strict=True):
                flat = torch.nn.functional.pad(values[real].float(), (0, 1), value=1.0)
                total.add_((flat.T @ flat).cpu())
    model.to("cpu")
    return found


def refitted(weight: Any, bias: Any, kept: Any, sums: Any) -> tuple[Any, Any]:
    """(weights [outputs, kept], bias [outputs]) that give what `weight` [outputs, inputs] and `bias` gave, as well as the
    kept inputs can. kept: positions [k] of inputs. sums: one of `moments`."""
    import torch

    count = weight.shape[1]
    gone = torch.ones(count, dtype=torch.bool)
    gone[kept] = False
    left = torch.cat([kept, torch.tensor([count])])  # and the 1 of the bias
    square = sums[left][:, left]
    ridge = _RIDGE * square.diagonal()[:-1].mean() * torch.eye(len(left), dtype=square.dtype)
    ridge[-1, -1] = 0
    # What the lost inputs are, as a mixture of those left.
    mixture = torch.linalg.solve(square + ridge, sums[left][:, :-1][:, gone])
    more = weight[:, gone].double() @ mixture.T
    return (weight[:, kept] + more[:, :-1]).float(), (bias + more[:, -1]).float()


def _some(rows: Examples) -> list[int]:
    """Positions of rows spread over all, as many as there may be tokens of."""
    mean = sum(rows.lengths) / max(1, len(rows))
    return spread(len(rows), min(_ROWS, max(1, int(_TOKENS / max(1.0, mean)))))


def spread(count: int, most: int) -> list[int]:
    """Positions of up to `most` rows spread over `count`."""
    if not count:
        return []
    found: list[int] = np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int)).tolist()
    return found


@contextmanager
def given_to(modules: Sequence[Any]) -> Iterator[list[Any]]:
    """Inside of it the list fills with what the modules are given, in the order of their calls."""
    seen: list[Any] = []
    hooks = [module.register_forward_pre_hook(lambda _, given: seen.append(given[0])) for module in modules]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()
