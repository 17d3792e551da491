"""Signatures of packages by OpenSSF's model-signing: who holds the key released these very files.

EVERGREEN_SIGN_KEY names a private key (PEM, an elliptic curve): every release is signed when it is registered.
EVERGREEN_VERIFY_KEY names the public one: without its signature nothing is registered, promoted, rolled back to or loaded.
A signature lies beside the package in the store, under the package's digest.
"""

from __future__ import annotations

import json
import logging
import os
import tempfile
from pathlib import Path
from typing import Any

from mlops.errors import StoreError, UserError
from mlops.store import Store
from mlops.types import ArtifactRef

log = logging.getLogger("evergreen")

SIGN_KEY, VERIFY_KEY = "EVERGREEN_SIGN_KEY", "EVERGREEN_VERIFY_KEY"


def sign(store: Store, package: ArtifactRef) -> None:
    """Signs a package where a key is named, once. UserError where the key cannot be used."""
    key = _key(SIGN_KEY)
    if key is None or store.read_document(_name(package.sha256)) is not None:
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "signature.json"
        try:
            config: Any = _library("signing").Config()
            config.use_elliptic_key_signer(private_key=key).sign(store.fetch(package), path)
        except ValueError as error:
            raise UserError(
                f"{SIGN_KEY}={key} cannot sign: {error}; needed is an unencrypted PEM of a curve"
            ) from error
        store.write_document(_name(package.sha256), json.loads(path.read_text(encoding="utf-8")))
    log.info("signed %s with %s", package.sha256[:12], key)


def read(store: Store, sha256: str) -> dict[str, Any] | None:
    """The signature of the package with this digest, none where it was never signed."""
    found: dict[str, Any] | None = store.read_document(_name(sha256))
    return found


def required() -> bool:
    """Whether signatures are enforced here."""
    return _key(VERIFY_KEY) is not None


def require(folder: Path, signature: dict[str, Any] | None, what: str) -> None:
    """Where signatures are enforced: raises StoreError unless the folder's files are what the holder of the key signed.

    what: the release, for the message.
    """
    key = _key(VERIFY_KEY)
    if key is None:
        return
    if signature is None:
        raise StoreError(f"{what} has no signature, {VERIFY_KEY}={key} asks for one: register it anew with {SIGN_KEY}")
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "signature.json"
        path.write_text(json.dumps(signature), encoding="utf-8")
        try:
            config: Any = _library("verifying").Config()
            config.use_elliptic_key_verifier(public_key=key).verify(folder, path)
        except Exception as error:  # the library raises many kinds: none of them is a signature that holds
            told = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise StoreError(f"{what}: the signature does not hold for {VERIFY_KEY}={key}: {told}") from error


def _library(module: str) -> Any:
    import importlib

    try:
        return importlib.import_module(f"model_signing.{module}")
    except ImportError as error:
        raise UserError(
            f"{SIGN_KEY} and {VERIFY_KEY} need model-signing: pip install 'evergreen-mlops[signing]'"
        ) from error


def _key(name: str) -> Path | None:
    found = os.environ.get(name)
    if not found:
        return None
    path = Path(found)
    if not path.is_file():
        raise UserError(f"{name} is {found!r}, which is no file; allowed is a key in PEM")
    return path


def _name(sha256: str) -> str:
    return f"signatures/{sha256}"
