"""One model on this process's share of the processor: several batches side by side, a thread each, or one by all threads.

Threads inside of an operator have to wait for each other after every one of them; batches need not. So what gives several
batches is computed by a session of one thread, called from as many threads as there are, and a single batch, of which a user
waits for the answer, by a session that spreads each operator. The second session has the weights once more: a large file,
whose operators are worth spreading anyway, does without.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy.typing as npt

from mlops.serving.session import open_session
from mlops.training.batches import by_length

_LARGEST = 1 << 27  # bytes of a file that is loaded twice
# Most tokens of a batch, padding included. Several side by side are small, so that all threads end together and what lies
# between two operators stays in a core's cache: MiniLM-L6 answers 3% faster than with 512.
SHARED_TOKENS, WIDE_TOKENS = 256, 2048
_FEWEST_TOKENS = 128  # of a batch: below, what a call costs by itself shows

Batch = dict[str, npt.NDArray[Any]]


class Compute:
    """Calls may come from several threads at once: they share the threads.

    Raises UserError as `open_session` does.
    """

    def __init__(self, path: Path, threads: int) -> None:
        self.session = open_session(path, threads)
        self._threads = threads
        self._single: Any = None
        if threads > 1 and path.stat().st_size <= _LARGEST:
            self._single = open_session(path, 1)
            self._pool = ThreadPoolExecutor(threads, thread_name_prefix="compute")

    def cut(self, lengths: Sequence[int]) -> list[list[int]]:
        """Positions of sequences in batches of similar length; small ones where that gives every thread one."""
        if self._single is None:
            return by_length(lengths, WIDE_TOKENS)
        share = -(-sum(lengths) // self._threads)
        return by_length(lengths, min(SHARED_TOKENS, max(_FEWEST_TOKENS, share)))

    def run(self, batches: Sequence[list[int]], padded: Callable[[list[int]], Batch]) -> list[npt.NDArray[Any]]:
        """Logits of each batch. padded: the model's inputs of the sequences at these positions."""
        if self._single is None or len(batches) < 2:
            return [self._logits(self.session, padded(batch)) for batch in batches]
        return list(self._pool.map(lambda batch: self._logits(self._single, padded(batch)), batches))

    @staticmethod
    def _logits(session: Any, arrays: Batch) -> npt.NDArray[Any]:
        found: npt.NDArray[Any] = session.run(["logits"], arrays)[0]
        return found
