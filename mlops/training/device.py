"""Where and how exactly to compute, and the seeds."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

from mlops.serving.cpu import computes_bf16, threads

log = logging.getLogger("evergreen")


@dataclass(frozen=True)
class Device:
    """name: cpu or cuda. bf16: forward passes in bfloat16; weights and optimizer stay in fp32. tf32: matrix products of
    fp32 numbers with 10 bits of mantissa, which GPUs compute several times as fast."""

    name: str
    bf16: bool
    tf32: bool = False

    def autocast(self) -> AbstractContextManager[Any]:
        """The context of a forward pass."""
        import torch

        return torch.autocast(self.name, dtype=torch.bfloat16) if self.bf16 else nullcontext()

    @contextmanager
    def products(self) -> Iterator[None]:
        """The context of a training: its precision of matrix products, which is the process's, is put back afterwards."""
        import torch

        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("high" if self.tf32 else "highest")
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(before)

    @property
    def multiple(self) -> int:
        """What padded lengths are multiples of: on a GPU 8, so that products fit its matrix units and few shapes come, each of
        which costs the search for a kernel once."""
        return 8 if self.name == "cuda" else 1

    @property
    def precision(self) -> str:
        """As the log and training.json say it."""
        return ("bf16" if self.bf16 else "fp32") + (" with tf32 products" if self.tf32 else "")


def pick(precision: str = "auto") -> Device:
    """A GPU when there is one, else the CPU. precision: fp32, bf16, or auto: bf16 and TF32 on a GPU that has them, bf16 on
    a CPU that has instructions for it, else fp32."""
    import torch

    if torch.cuda.is_available():
        able = torch.cuda.is_bf16_supported()
        if precision == "bf16" and not able:
            log.warning("train.precision: found bf16, which this GPU only emulates; it will be slow")
        return Device("cuda", precision == "bf16" or (precision == "auto" and able), precision != "fp32")
    # torch counts the machine's processors; a control group may grant fewer, and more threads than that stall.
    if threads() != torch.get_num_threads():
        torch.set_num_threads(threads())
    able = computes_bf16()
    if precision == "bf16" and not able:
        log.warning("train.precision: found bf16 on a processor; without instructions for it that is 10 times slower")
    return Device("cpu", precision == "bf16" or (precision == "auto" and able))


def seed_all(seed: int) -> None:
    """Seeds Python, numpy and torch on every device."""
    import random

    import numpy as np
    import torch

    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def chance_state() -> dict[str, Any]:
    """Where all generators of random numbers stand, in plain values and tensors."""
    import random

    import numpy as np
    import torch

    state: Any = np.random.get_state(legacy=True)
    found = {
        "python": random.getstate(),
        "numpy": (state[0], state[1].tolist(), *state[2:]),
        "torch": torch.get_rng_state(),
    }
    return found | ({"cuda": torch.cuda.get_rng_state()} if torch.cuda.is_available() else {})


def set_chance_state(state: dict[str, Any]) -> None:
    """Puts the generators where `chance_state` found them."""
    import random

    import numpy as np
    import torch

    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    np.random.set_state(tuple(state["numpy"]))
    torch.set_rng_state(state["torch"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
