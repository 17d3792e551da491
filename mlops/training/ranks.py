"""The processes that train together: who this one is, sums over all of them, gradients, and models in shares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from mlops.training.device import Device

_BUCKET = 8_388_608  # numbers that are summed at once: 32 MiB of fp32


@dataclass(frozen=True)
class Ranks:
    """rank: this process of `world`, from 0. strategy: ddp, every process has all weights; fsdp, each a share of them.

    With one process nothing is ever sent. Otherwise torch's process group has to be open, and every method but `first`
    has to be called by all processes in the same order.
    """

    rank: int = 0
    world: int = 1
    strategy: Literal["ddp", "fsdp"] = "ddp"

    @property
    def first(self) -> bool:
        """Whether this process speaks and writes for all."""
        return self.rank == 0

    @property
    def sharded(self) -> bool:
        return self.world > 1 and self.strategy == "fsdp"

    def sum(self, values: Sequence[float]) -> list[float]:
        """Sums over the processes, in fp64."""
        if self.world == 1:
            return list(values)
        import torch
        from torch import distributed

        where = "cuda" if distributed.get_backend() == "nccl" else "cpu"
        summed = torch.tensor(values, dtype=torch.float64, device=where)
        distributed.all_reduce(summed)
        return [float(value) for value in summed.cpu()]

    def gather(self, value: Any) -> list[Any]:
        """Everybody's value, by rank: between our own processes, of what we made ourselves."""
        if self.world == 1:
            return [value]
        from torch import distributed

        found: list[Any] = [None] * self.world
        distributed.all_gather_object(found, value)
        return found

    def place(self, model: Any, device: Device) -> Any:
        """The model to train: the same one, moved to the device, or a copy of which each process has a share."""
        if not self.sharded:
            return model.to(device.name)
        import copy

        return _sharded(copy.deepcopy(model).to(device.name))

    def sum_gradients(self, weights: Sequence[Any]) -> None:
        """Sums the gradients over the processes in flat buckets; a sharded model's are summed by its backward pass."""
        if self.world == 1 or self.sharded:
            return
        import torch
        from torch import distributed

        for value in weights:
            if value.grad is None:  # a process without rows in this step
                value.grad = torch.zeros_like(value)
        for bucket in _buckets([value.grad for value in weights]):
            flat = torch.cat([gradient.reshape(-1) for gradient in bucket])
            distributed.all_reduce(flat)
            parts = flat.split([gradient.numel() for gradient in bucket])
            for gradient, part in zip(bucket, parts, strict=True):
                gradient.copy_(part.view_as(gradient))

    @property
    def divisor(self) -> float:
        """What gradients were divided by already: sharded models take the mean over the processes, all else sums."""
        return float(self.world) if self.sharded else 1.0


def _sharded(model: Any) -> Any:
    """Weights in shares by layer and the rest: FSDP2 (Zhao et al., "PyTorch FSDP", 2023)."""
    from torch.distributed.fsdp import fully_shard

    from mlops.training.layers import layers

    place, _ = layers(model)
    for layer in model.get_submodule(place) if place else ():
        fully_shard(layer)
    return fully_shard(model)


def _buckets(gradients: Sequence[Any]) -> list[list[Any]]:
    found: list[list[Any]] = [[]]
    size = 0
    for gradient in gradients:
        if found[-1] and size + gradient.numel() > _BUCKET:
            found.append([])
            size = 0
        found[-1].append(gradient)
        size += gradient.numel()
    return found if gradients else []


def whole(value: Any) -> Any:
    """A tensor on the CPU, put together where it is in shares (then all processes have to call it); else as it is."""
    if isinstance(value, Mapping):
        return {key: whole(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(whole(entry) for entry in value)
    if not hasattr(value, "detach"):
        return value
    value = value.detach()
    return (value.full_tensor() if hasattr(value, "full_tensor") else value).to("cpu", copy=True)


def put(target: Any, value: Any) -> None:
    """Copies a whole tensor into one that may be in shares."""
    if hasattr(target, "full_tensor"):
        from torch.distributed.tensor import distribute_tensor

        value = distribute_tensor(value.to(target.device), target.device_mesh, target.placements)
    target.detach().copy_(value)
