"""Signed releases with real keys: registered, promoted, loaded, and refused where the signature does not hold."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny import tiny_release

from mlops import promotion, registry, signing
from mlops.errors import StoreError, UserError
from mlops.rollback import rollback
from mlops.serving.releases import Loader, load_runtime
from mlops.store import open_store


def keys(folder: Path, name: str) -> tuple[Path, Path]:
    """(private, public), in PEM."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    private, public = folder / f"{name}.pem", folder / f"{name}.pub"
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    public.write_bytes(
        key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    return private, public


@pytest.fixture
def signed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Signatures are made and enforced; the folder with the keys "own" and "other"."""
    private, public = keys(tmp_path, "own")
    keys(tmp_path, "other")
    monkeypatch.setenv("EVERGREEN_SIGN_KEY", str(private))
    monkeypatch.setenv("EVERGREEN_VERIFY_KEY", str(public))
    return tmp_path


def register(seed: int = 0) -> str:
    return registry.register(tiny_release(seed=seed), {}, None).version


def test_a_signed_release_goes_all_the_way(signed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in (0, 1):
        promotion.promote("tiny", register(seed), "a test")
    assert load_runtime("tiny")[1].version == "2"
    assert rollback("tiny", "a test") == "1"
    loader = Loader("tiny")
    loader.refresh()
    assert loader.served is not None
    assert loader.served.version == "1"
    # Registry and store gone: the copy is held to its signature all the same, and to the key of today.
    monkeypatch.setenv("EVERGREEN_STORE", (signed / "gone").as_uri())
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    for key, served in (("own.pub", True), ("other.pub", False)):
        monkeypatch.setenv("EVERGREEN_VERIFY_KEY", str(signed / key))
        again = Loader("tiny")
        again.refresh()
        assert (again.served is not None) is served, again.problem


def test_without_the_signature_nothing_is_registered_promoted_or_loaded(
    signed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("EVERGREEN_SIGN_KEY")
    with pytest.raises(StoreError, match=r"tiny has no signature, EVERGREEN_VERIFY_KEY=.* asks for one"):
        register()
    assert registry.names() == []
    public = str(signed / "own.pub")
    monkeypatch.delenv("EVERGREEN_VERIFY_KEY")
    version = register()
    monkeypatch.setenv("EVERGREEN_VERIFY_KEY", public)
    for use in (lambda: promotion.promote("tiny", version, "a test"), lambda: load_runtime("tiny", version)):
        with pytest.raises(StoreError, match="tiny version 1 has no signature"):
            use()


@pytest.mark.parametrize("harm", ["another key", "another file", "another signature"])
def test_a_signature_that_does_not_hold(signed: Path, harm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    version, store = register(), open_store()
    sha256 = registry.at("tiny", version).model.files.sha256
    document = f"signatures/{sha256}"
    if harm == "another key":
        monkeypatch.setenv("EVERGREEN_VERIFY_KEY", str(signed / "other.pub"))
    elif harm == "another file":
        other = registry.register(tiny_release("int8"), {}, None).model.files.sha256
        store.write_document(document, store.read_document(f"signatures/{other}"))
    else:
        found = json.dumps(store.read_document(document))
        store.write_document(document, json.loads(found.replace('"payload": "', '"payload": "AAAA')))
    with pytest.raises(StoreError, match="tiny version 1: the signature does not hold"):
        promotion.promote("tiny", version, "a test")


def test_keys_that_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVERGREEN_SIGN_KEY", str(tmp_path / "absent"))
    with pytest.raises(UserError, match=r"EVERGREEN_SIGN_KEY is '.*absent', which is no file"):
        register()
    (tmp_path / "text").write_text("not a key")
    monkeypatch.setenv("EVERGREEN_SIGN_KEY", str(tmp_path / "text"))
    with pytest.raises(UserError, match=r"cannot sign: .* unencrypted PEM"):
        register()
    assert not signing.required()
