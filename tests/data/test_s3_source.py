from __future__ import annotations

import glob
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import pytest

from mlops.data import s3
from mlops.data.uris import locate
from mlops.errors import SourceError


@pytest.fixture
def client(s3_server: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Any:
    import boto3

    for name, value in s3_server.items():
        monkeypatch.setenv(name, value)
    return boto3.client("s3")


@pytest.fixture
def put(client: Any, request: pytest.FixtureRequest) -> Callable[..., str]:
    """Puts objects below a folder of the test's own and gives its URI."""
    folder = request.node.name.replace("[", "-").replace("]", "")

    def put(objects: dict[str, bytes]) -> str:
        with ThreadPoolExecutor(8) as pool:
            keys = [(f"{folder}/{name}", data) for name, data in objects.items()]
            list(pool.map(lambda each: client.put_object(Bucket="evergreen", Key=each[0], Body=each[1]), keys))
        return f"s3://evergreen/{folder}"

    return put


def names(uri: str) -> list[str]:
    return [file.name for file in locate(uri)]


TREE = (
    "a.jsonl", "b.jsonl", "b.csv", "ab.jsonl", "sun/a.jsonl", "sun/b.csv", "sun/deep/c.jsonl", "rain/a.jsonl",
    ".hidden/a.jsonl", "sun/.hidden.jsonl", "sun/.git/a.jsonl", "sun2/x1.txt", "sun2/x2.txt", "sun2/y1.txt",
)  # fmt: skip
GLOBS = (
    "*.jsonl", "?.jsonl", "[ab].jsonl", "[!a].jsonl", "**", "**/*.jsonl", "**/a.jsonl", "*/a.jsonl", "s*/*.jsonl",
    "sun/**", "sun/**/*.jsonl", "sun/**/c.jsonl", "**/deep/*", "sun?", "sun*", "*", "sun2/x[0-9].txt", "su[n]",
    ".h*/a.jsonl", "sun/.*", "**/.git/*", "*/", "**/**/a.jsonl", "sun/a*", "**/**", "a**",
)  # fmt: skip


def test_globs_mean_what_they_mean_on_a_disk(put: Callable[..., str], tmp_path: Path) -> None:
    uri = put({name: name.encode() for name in TREE})
    for name in TREE:
        (tmp_path / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "tree" / name).write_text(name)
    for pattern in GLOBS:
        # Where "**" finds the folder itself, a disk gives its files a second time, as "./NAME".
        local = {file.name.removeprefix("./"): file.path.read_bytes() for file in locate(f"{tmp_path}/tree/{pattern}")}
        expected = sorted(local.items())
        assert [(file.name, file.path.read_bytes()) for file in locate(f"{uri}/{pattern}")] == expected, pattern
    assert names(f"{uri[:-2]}*/sun/*.jsonl") == [f"{uri.rsplit('/', 1)[1]}/sun/a.jsonl"]
    with pytest.raises(SourceError, match="nothing lies there"):
        locate(f"{uri}/*.parquet")


def test_a_key_with_glob_signs_comes_first(put: Callable[..., str]) -> None:
    uri = put({"a[1].jsonl": b"signs", "a1.jsonl": b"plain", "b[1]/x.txt": b"x", "b1/x.txt": b"y", "c#d?e": b"z"})
    assert [(file.name, file.path.read_bytes()) for file in locate(f"{uri}/a[1].jsonl")] == [("a[1].jsonl", b"signs")]
    assert [file.path.read_bytes() for file in locate(f"{uri}/b[1]")] == [b"x"]
    assert names(f"{uri}/a[1]*") == ["a1.jsonl"]
    assert names(f"{uri}/c#d?e") == ["c#d?e"]


def test_more_objects_than_a_page_has(put: Callable[..., str]) -> None:
    uri = put({f"{number:04}.txt": b"%d" % number for number in range(1100)} | {"folder/": b"", ".hidden": b""})
    files = locate(uri)
    assert [file.name for file in files] == [f"{number:04}.txt" for number in range(1100)]
    assert [int(file.path.read_bytes()) for file in files] == list(range(1100))
    assert len(locate(f"{uri}/1*.txt")) == 100


@pytest.fixture(scope="module")
def large() -> bytes:
    return os.urandom(1 << 20) * 40


def multipart(client: Any, key: str, data: bytes) -> None:
    from io import BytesIO

    from boto3.s3.transfer import TransferConfig

    config = TransferConfig(multipart_threshold=8 << 20, multipart_chunksize=8 << 20)
    client.upload_fileobj(BytesIO(data), "evergreen", key, Config=config)


def watched(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """From where to where each part is asked for, as it happens."""
    asked = []
    part = s3._part

    def watch(client: Any, bucket: str, found: Any, file: Any, end: int, stop: Any) -> None:
        asked.append((file.tell(), end))
        part(client, bucket, found, file, end, stop)

    monkeypatch.setattr(s3, "_part", watch)
    return asked


def test_a_large_object_comes_in_parts(client: Any, monkeypatch: pytest.MonkeyPatch, large: bytes) -> None:
    multipart(client, "large/object.bin", large)
    assert "-" in client.head_object(Bucket="evergreen", Key="large/object.bin")["ETag"]
    asked = watched(monkeypatch)
    files = locate("s3://evergreen/large/object.bin")
    assert files[0].name == "object.bin"
    assert files[0].path.read_bytes() == large
    assert asked == [(0, 16 << 20), (16 << 20, 32 << 20), (32 << 20, 40 << 20)]
    assert locate("s3://evergreen/large/*.bin") == files
    assert len(asked) == 3


def test_a_file_that_was_cut_short_is_brought_again(put: Callable[..., str]) -> None:
    uri = put({"a.txt": b"whole", "empty.txt": b""})
    files = locate(uri)
    files[0].path.write_bytes(b"who")
    assert [file.path.read_bytes() for file in locate(uri)] == [b"whole", b""]


def test_a_changed_object_has_another_file(put: Callable[..., str]) -> None:
    uri = put({"a.txt": b"one", "b.txt": b"same"})
    before = locate(uri)
    put({"a.txt": b"two"})
    after = locate(uri)
    assert [file.path.read_bytes() for file in after] == [b"two", b"same"]
    assert before[0].path.read_bytes() == b"one"
    assert before[1] == after[1]


def changing(monkeypatch: pytest.MonkeyPatch, change: Callable[[], object], times: int) -> list[str]:
    """Lets something happen right before a download, as often as given; the keys that were downloaded."""
    keys: list[str] = []
    fill = s3._fill

    def change_first(client: Any, bucket: str, found: Any, *rest: Any) -> None:
        keys.append(found.key.rsplit("/", 1)[-1])
        if found.key.endswith("a.txt") and keys.count("a.txt") <= times:
            change()
        fill(client, bucket, found, *rest)

    monkeypatch.setattr(s3, "_fill", change_first)
    return keys


def test_a_change_between_listing_and_download_is_noticed(
    put: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = put({"a.txt": b"old", "b.txt": b"same"})
    keys = changing(monkeypatch, lambda: put({"a.txt": b"newer"}), 1)
    assert [file.path.read_bytes() for file in locate(uri)] == [b"newer", b"same"]
    assert sorted(keys) == ["a.txt", "a.txt", "b.txt"]


def test_an_object_that_is_removed_meanwhile_is_left_out(
    put: Callable[..., str], client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = put({"a.txt": b"old", "b.txt": b"same"})
    key = urlparse(uri).path[1:] + "/a.txt"
    changing(monkeypatch, lambda: client.delete_object(Bucket="evergreen", Key=key), 1)
    assert names(uri) == ["b.txt"]


def test_an_object_that_changes_all_the_time_is_said(
    put: Callable[..., str], monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    uri = put({"a.txt": b"0", "b.txt": b"same"})
    versions = iter(range(1, 100))
    keys = changing(monkeypatch, lambda: put({"a.txt": b"%d" % next(versions)}), 100)
    with pytest.raises(SourceError, match=r"/a\.txt changed while it was read, 3 times") as caught:
        locate(uri)
    assert uri in str(caught.value)
    assert keys.count("a.txt") == 3
    assert keys.count("b.txt") == 1
    assert len(cached(home)) == 1


def cached(home: Path) -> list[Path]:
    """All files in the S3 cache, unfinished ones included."""
    return [Path(name) for name in glob.glob(f"{home}/**", recursive=True, include_hidden=True) if Path(name).is_file()]


class Line:
    """A TCP line to the server that breaks: each connection after `most` bytes, as long as `cuts` are left.

    dies: the last cut is the end of it.
    """

    def __init__(self, port: int, most: int, cuts: int, dies: bool) -> None:
        self.port, self.most, self.cuts, self.dies, self.closed = port, most, cuts, dies, False
        self.listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self) -> None:
        while True:
            try:
                inner, _ = self.listener.accept()
            except OSError:
                return
            if self.closed:  # closing a socket does not wake the thread that waits on it
                inner.close()
                return
            outer = socket.create_connection(("127.0.0.1", self.port))
            threading.Thread(target=self.pump, args=(inner, outer, False), daemon=True).start()
            threading.Thread(target=self.pump, args=(outer, inner, True), daemon=True).start()

    def pump(self, source: socket.socket, sink: socket.socket, counted: bool) -> None:
        passed = 0
        try:
            while data := source.recv(1 << 16):
                sink.sendall(data)
                passed += len(data)
                if counted and passed > self.most and self.cuts > 0:
                    self.cuts -= 1
                    if self.cuts == 0 and self.dies:
                        self.close()
                    break
        except OSError:
            pass
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.closed = True
        self.listener.close()


@contextmanager
def line(
    s3_server: dict[str, str], monkeypatch: pytest.MonkeyPatch, most: int, cuts: int, dies: bool = False
) -> Iterator[Line]:
    opened = Line(urlparse(s3_server["AWS_ENDPOINT_URL"]).port or 0, most, cuts, dies)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{opened.listener.getsockname()[1]}")
    try:
        yield opened
    finally:
        opened.close()


def test_a_line_that_breaks_is_taken_up_again(
    client: Any, s3_server: dict[str, str], monkeypatch: pytest.MonkeyPatch, large: bytes, home: Path
) -> None:
    multipart(client, "broken/large.bin", large)
    client.put_object(Bucket="evergreen", Key="broken/small.bin", Body=large[: 9 << 20])
    asked = watched(monkeypatch)
    with line(s3_server, monkeypatch, most=5 << 20, cuts=4) as broken:
        files = locate("s3://evergreen/broken")
        assert broken.cuts == 0
    assert [file.path.read_bytes() == whole for file, whole in zip(files, (large, large[: 9 << 20]), strict=True)] == [
        True, True,
    ]  # fmt: skip
    assert len(asked) > 3 + 1
    assert len([start for start, _ in asked if start == 0]) == 2  # what had come is not asked for again
    assert len(cached(home)) == 2


def test_a_server_that_dies_is_said_within_the_deadline(
    client: Any, s3_server: dict[str, str], monkeypatch: pytest.MonkeyPatch, large: bytes, home: Path
) -> None:
    multipart(client, "dies/large.bin", large)
    monkeypatch.setattr(s3, "DEADLINE_S", 3)
    started = time.monotonic()
    with (
        line(s3_server, monkeypatch, most=20 << 20, cuts=1, dies=True),
        pytest.raises(SourceError, match="no new byte for 3 s") as caught,
    ):
        locate("s3://evergreen/dies")
    assert time.monotonic() - started < 20
    for part in ("s3://evergreen/dies/large.bin", f"of {40 << 20} came", "check the network"):
        assert part in str(caught.value)
    assert cached(home) == []


def test_no_server_and_wrong_keys_are_told_apart(
    put: Callable[..., str], s3_server: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import boto3

    uri = put({"a.txt": b"x"})
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)  # it remembers the right ones
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(SourceError, match=r"S3 cannot be read: .*(Signature|signature)"):
        locate(uri)
    for wrong, said in (("s3://", "found no bucket"), ("s3://evergreen*/x", "Invalid bucket name")):
        with pytest.raises(SourceError, match=said):
            locate(wrong)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    with pytest.raises(SourceError, match="S3 cannot be read: Could not connect"):
        locate(uri)


def test_a_server_that_answers_no_ranges_is_said(
    client: Any, monkeypatch: pytest.MonkeyPatch, large: bytes, home: Path
) -> None:
    multipart(client, "ranges/large.bin", large)
    getter = s3._getter

    def without_ranges(listing: Any) -> Any:
        made = getter(listing)
        whole = made.get_object
        made.get_object = lambda Range=None, **options: whole(**options)
        return made

    monkeypatch.setattr(s3, "_getter", without_ranges)
    with pytest.raises(SourceError, match="does not answer ranges"):
        locate("s3://evergreen/ranges/large.bin")
    assert cached(home) == []
