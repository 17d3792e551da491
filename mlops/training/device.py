"""Where and how exactly to compute, and the seeds."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from mlops.serving.cpu import threads


@dataclass(frozen=True)
class Device:
    """name: cpu or cuda. bf16: forward passes in bfloat16; weights and optimizer stay in fp32."""

    name: str
    bf16: bool

    def autocast(self) -> AbstractContextManager[Any]:
        """The context of a forward pass."""
        import torch

        return torch.autocast(self.name, dtype=torch.bfloat16) if self.bf16 else nullcontext()

    @property
    def precision(self) -> str:
        return "bf16" if self.bf16 else "fp32"


def pick() -> Device:
    """A GPU when there is one, with bf16 when it has it; else the CPU in fp32, where bf16 is far slower."""
    import torch

    if torch.cuda.is_available():
        return Device("cuda", torch.cuda.is_bf16_supported())
    # torch counts the machine's processors; a control group may grant fewer, and more threads than that stall.
    if threads() != torch.get_num_threads():
        torch.set_num_threads(threads())
    return Device("cpu", False)


def seed_all(seed: int) -> None:
    """Seeds Python, numpy and torch on every device."""
    import random

    import numpy as np
    import torch

    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
