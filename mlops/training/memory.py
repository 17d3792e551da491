"""Running out of memory: when it is that, and what to say about it."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from mlops.errors import EvergreenError
from mlops.training.setting import Setting, State

# Of mallopt(3).
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _LARGEST = -1, -3, 2**31 - 1
_USUAL = 1 << 25  # what glibc comes to by itself
_SIGNS = ("out of memory", "defaultcpuallocator", "can't allocate memory")


def out_of_memory(error: BaseException) -> bool:
    """Whether torch says that memory ran out, on a GPU or in the machine."""
    import torch

    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error).lower() for sign in _SIGNS)


def release() -> None:
    """Gives back what a failed batch has left."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def too_little(setting: Setting, state: State, lengths: Sequence[int]) -> EvergreenError:
    """The error when halving the batches did not help or cannot be done."""
    train = setting.train
    halved = f", halved from {train.batch_tokens:,}" if state.halved else ""
    return EvergreenError(
        f"memory ran out at epoch {state.epoch}, step {state.step + 1} with batches of {state.budget:,} tokens{halved}; the "
        f"longest sequence has {max(lengths, default=0):,} tokens. Lower train.batch_tokens ({train.batch_tokens:,}; raise "
        f"train.accumulate as much to keep the step), model.max_length ({setting.package.max_length:,}) or choose a "
        "smaller base model; train.freeze_layers and train.lora need less memory too"
    )


@contextmanager
def kept_blocks() -> Iterator[None]:
    """Inside of it glibc keeps large blocks that are freed for the next time; afterwards they are given back.

    By itself it hands blocks over 32 MiB back at once, and the kernel clears every page of the next one anew: the gradient of
    a vocabulary's embeddings, made in each step, costs a quarter of a step of few tokens that way. Nothing elsewhere.
    """
    try:
        libc = ctypes.CDLL(None)
        mallopt, trim = libc.mallopt, libc.malloc_trim
    except (OSError, AttributeError):  # not glibc
        yield
        return
    mallopt(_M_MMAP_THRESHOLD, _LARGEST)
    mallopt(_M_TRIM_THRESHOLD, _LARGEST)
    try:
        yield
    finally:
        mallopt(_M_MMAP_THRESHOLD, _USUAL)
        mallopt(_M_TRIM_THRESHOLD, 2 * _USUAL)
        trim(0)
