"""Whether the copy of a release on this machine is what was judged: by its manifest's digest, which the registry keeps."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from mlops.errors import StoreError
from mlops.serving.package import MODEL, PACKAGE, TOKENIZER
from mlops.store import MANIFEST

NEEDED = (MODEL, PACKAGE, TOKENIZER)


def require_copy(package: Path, sha256: str) -> None:
    """Raises StoreError unless the folder's manifest is the judged one and lists what a package is made of.

    The files themselves are held against the manifest when they are loaded. sha256: of the manifest, in hex, which is the
    artifact's.
    """
    path = package / MANIFEST
    try:
        data = path.read_bytes()
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error}") from None
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise StoreError(f"{path} has sha256 {found}, what was judged has {sha256}: somebody changed the copy")
    missing = [name for name in NEEDED if name not in json.loads(data)["files"]]
    if missing:
        raise StoreError(
            f"{path} does not list {', '.join(missing)}: nothing would hold those files to what was judged"
        )
