"""Artifacts and documents, on a folder and on a real S3 server."""

from __future__ import annotations

import hashlib
import json
import threading
from pathlib import Path

import pytest
from botocore.stub import Stubber

from mlops.blobs import LocalBlobs, open_blobs
from mlops.blobs_s3 import S3Blobs
from mlops.errors import StoreError, UserError
from mlops.store import MANIFEST, Store, open_store


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    if request.param == "folder":
        return Store(LocalBlobs(tmp_path / "store"), tmp_path / "cache")
    for name, value in request.getfixturevalue("s3_server").items():
        monkeypatch.setenv(name, value)
    return Store(S3Blobs("evergreen", f"p/{tmp_path.name}"), tmp_path / "cache")


def folder_of(path: Path, **files: str) -> Path:
    path.mkdir(parents=True)
    for name, text in files.items():
        (path / name).write_text(text)
    return path


def test_an_artifact_comes_back_and_is_named_by_its_content(store: Store, tmp_path: Path) -> None:
    first = store.put(folder_of(tmp_path / "one", a="1", b="2"), "thing")
    again = store.put(folder_of(tmp_path / "two", b="2", a="1"), "thing")
    other = store.put(folder_of(tmp_path / "three", a="1", b="3"), "thing")
    assert first == again
    assert other.sha256 != first.sha256
    assert first.size_bytes == 2
    fetched = store.fetch(first)
    assert {path.name: path.read_text() for path in fetched.iterdir() if path.name != MANIFEST} == {"a": "1", "b": "2"}
    assert hashlib.sha256((fetched / MANIFEST).read_bytes()).hexdigest() == first.sha256


def test_without_its_manifest_an_artifact_does_not_exist(tmp_path: Path) -> None:
    store = Store(LocalBlobs(tmp_path / "store"), tmp_path / "cache")
    ref = store.put(folder_of(tmp_path / "one", a="1"), "thing")
    manifest = tmp_path / "store" / "thing" / ref.sha256 / MANIFEST
    manifest.unlink()
    assert not store.exists(ref)
    with pytest.raises(StoreError, match="never finished"):
        store.fetch(ref)
    assert store.put(tmp_path / "one", "thing") == ref
    assert store.exists(ref)


def test_a_changed_file_is_noticed(tmp_path: Path) -> None:
    blobs = LocalBlobs(tmp_path / "store")
    ref = Store(blobs, tmp_path / "cache").put(folder_of(tmp_path / "one", a="1"), "thing")
    (tmp_path / "store" / "thing" / ref.sha256 / "a").write_text("2")
    with pytest.raises(StoreError, match="its manifest says"):
        Store(blobs, tmp_path / "cache").fetch(ref)


def test_a_damaged_copy_is_downloaded_again(
    s3_server: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name, value in s3_server.items():
        monkeypatch.setenv(name, value)
    blobs = S3Blobs("evergreen", f"p/{tmp_path.name}")
    ref = Store(blobs, tmp_path / "cache").put(folder_of(tmp_path / "one", a="1", b="2"), "thing")
    copy = Store(blobs, tmp_path / "cache").fetch(ref)
    (copy / "a").write_text("2")
    (copy / "b").unlink()
    again = Store(blobs, tmp_path / "cache").fetch(ref)
    assert [(again / name).read_text() for name in "ab"] == ["1", "2"]
    assert "downloading it again" in caplog.text
    blobs.client.delete_object(Bucket="evergreen", Key=f"p/{tmp_path.name}/thing/{ref.sha256}/b")
    (copy / "b").unlink()
    with pytest.raises(StoreError, match=f"{ref.sha256}/b is missing"):
        Store(blobs, tmp_path / "cache").fetch(ref)
    blobs.write(f"thing/{ref.sha256}/b", b"2")
    assert Store(blobs, tmp_path / "cache").fetch(ref) == copy
    # Damaged on the other side, a second download does not help and is said.
    blobs.write(f"thing/{ref.sha256}/a", b"3")
    (copy / "a").write_text("2")
    with pytest.raises(StoreError, match="its manifest says"):
        Store(blobs, tmp_path / "cache").fetch(ref)


def test_wrong_settings_of_s3_are_the_users_to_mend(
    s3_server: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in s3_server.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(KeyError):
        S3Blobs("evergreen", "").read("nothing")
    missing = S3Blobs("no-such-bucket", "p")
    for act in (lambda: missing.read("a"), lambda: missing.list("a/")):
        with pytest.raises(UserError, match=r"s3://no-such-bucket/p.*NoSuchBucket"):
            act()
    # The test server asks for no key, so the refusal of one is played back.
    refused = S3Blobs("evergreen", "")
    with Stubber(refused.client) as answers:
        answers.add_client_error("head_object", "403", "Forbidden", 403)
        answers.add_client_error("put_object", "InvalidAccessKeyId", "no such key", 403)
        for act in (lambda: refused.exists("a"), lambda: refused.create("a", b"1")):
            with pytest.raises(UserError, match="check the bucket's name, AWS_ENDPOINT_URL and the credentials"):
                act()
    monkeypatch.setenv("AWS_ENDPOINT_URL", "no url")
    with pytest.raises(UserError, match="no url"):
        S3Blobs("evergreen", "")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(StoreError, match="cannot be reached"):
        S3Blobs("evergreen", "").read("a")


def test_links_and_empty_folders_are_refused(tmp_path: Path) -> None:
    store = Store(LocalBlobs(tmp_path / "store"), tmp_path / "cache")
    folder = folder_of(tmp_path / "one", a="1")
    (folder / "link").symlink_to(folder / "a")
    with pytest.raises(StoreError, match="symbolic link"):
        store.put(folder, "thing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(StoreError, match="empty"):
        store.put(tmp_path / "empty", "thing")


def test_documents(store: Store) -> None:
    assert store.read_document("a/b") is None
    store.write_document("a/b", {"x": 1})
    store.write_document("a/b", {"x": 2})
    assert store.read_document("a/b") == {"x": 2}
    assert store.create_document("a/c", 1)
    assert not store.create_document("a/c", 2)
    assert store.read_document("a/c") == 1
    assert store.list_documents("a") == ["a/b", "a/c"]


def test_one_of_many_creators_wins(store: Store) -> None:
    won: list[int] = []
    barrier = threading.Barrier(8)

    def create(number: int) -> None:
        barrier.wait()
        if store.create_document("race", number):
            won.append(number)

    threads = [threading.Thread(target=create, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert store.read_document("race") == won[0]


def test_the_settings_name_the_store(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_store().write_document("x", 1)
    assert json.loads((home / "store" / "documents" / "x.json").read_text()) == 1
    monkeypatch.setenv("EVERGREEN_STORE", "ftp://somewhere")
    with pytest.raises(UserError, match="ftp://somewhere"):
        open_store()
    # The last two name a machine, or no folder: what the user meant would land elsewhere.
    for uri in ("s3://", "file://data/store", "file:data/store"):
        with pytest.raises(UserError, match=uri):
            open_blobs(uri)
