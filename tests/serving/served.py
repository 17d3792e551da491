"""A server's parts without a registry: tiny models as releases, and an application over one of them."""

from __future__ import annotations

import functools
from typing import Any

from tiny import tiny_models

from mlops.serving.releases import Served
from mlops.serving.runtime import Runtime


@functools.cache
def runtime(variant: str = "fp32") -> Runtime:
    return Runtime.load(tiny_models()[variant])


def release(version: str = "1", variant: str = "fp32") -> Served:
    return Served("tiny", version, variant, runtime(variant))


class Still:
    """What a loader is to the application, with one release that never changes by itself."""

    def __init__(self, served: Served | None) -> None:
        self.name, self.served, self.problem = "tiny", served, ""
        self.counts, self.looks = {"taken": 1, "refused": 0}, 0

    def look(self) -> None:
        self.looks += 1

    def start(self) -> None: ...

    def stop(self) -> None: ...


def still(served: Served | None) -> Any:
    return Still(served)
