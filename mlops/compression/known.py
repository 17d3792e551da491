"""What an earlier search found out: its answers as documents of the store, its trained networks as artifacts, by what they
came from. What is not known is made; what is known and gone from the store is made again."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mlops.code import code_sha256, libraries
from mlops.store import open_store
from mlops.types import ArtifactRef, identity

log = logging.getLogger("evergreen")


def key(*decisive: Any) -> str:
    """A name for what follows from these JSON-safe values, from our code and from the libraries."""
    return identity([*decisive, code_sha256(), libraries()])


def value(kind: str, name: str, make: Callable[[], Any]) -> Any:
    """A JSON-safe value, found or made."""
    document = f"{kind}/{name}"
    known = open_store().read_document(document)
    if known is not None:
        return known["value"]
    found = make()
    open_store().write_document(document, {"value": found})
    return found


def folder(kind: str, name: str, make: Callable[[], Path]) -> Path:
    """A folder of the store, found or made."""
    document, store = f"{kind}/{name}", open_store()
    known = store.read_document(document)
    if known is not None and store.exists(found := ArtifactRef.model_validate(known)):
        log.info("compress: %s as an earlier search made it", kind)
        return store.fetch(found)
    files = store.put(make(), "model")
    store.write_document(document, files.model_dump(mode="json"))
    return store.fetch(files)
