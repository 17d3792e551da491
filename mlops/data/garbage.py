"""Python's cycle collector, paused where millions of small objects come and go without a cycle among them."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def paused() -> Iterator[None]:
    """Each of its passes looks at every object of the libraries that are loaded: a fifth of the time of a long loop."""
    running = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if running:
            gc.enable()
