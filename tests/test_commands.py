"""What the commands refuse, with exit code 2 and a reason; what they take is in tests/e2e."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest
import yaml
from tiny import tiny_file, tiny_rows

from mlops import commands, ledger
from mlops.cli import main
from mlops.errors import UserError


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The command's stderr; it must be the user's mistake."""
    assert main(arguments) == 2
    said = capsys.readouterr()
    assert said.out == ""
    return said.err


@pytest.mark.parametrize("name", ["../other", "News", "a b", "x/y", ""])
def test_names_that_no_model_has(capsys: pytest.CaptureFixture[str], name: str, home: Path) -> None:
    for arguments in (
        ["predict", name, "--text", "x"],
        ["serve", name],
        ["releases", name],
        ["promote", name, "1", "--reason", "r"],
        ["rollback", name, "--reason", "r"],
    ):
        assert f"found the model name {name!r}" in refused(capsys, *arguments)
    assert not home.exists()


def test_which_version_served_at_a_time(capsys: pytest.CaptureFixture[str]) -> None:
    ledger.append("news", "promote", None, "1", "a test")
    assert main(["releases", "news", "--at", "2020-01-01 12:00"]) == 0
    assert capsys.readouterr().out == "news: no version served at 2020-01-01 12:00+00:00\n"
    assert main(["releases", "news", "--at", "2999-01-01T12:00+02:00", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told == {"name": "news", "at": "2999-01-01T12:00:00+02:00", "version": "1"}
    assert "--at is 'yesterday'; allowed is a time such as" in refused(capsys, "releases", "news", "--at", "yesterday")


@pytest.mark.parametrize("model", ["news@", "news@a b", "news@a@b"])
def test_aliases_that_none_has(capsys: pytest.CaptureFixture[str], model: str) -> None:
    assert f"found {model!r}; allowed is MODEL or MODEL@ALIAS" in refused(capsys, "predict", model, "--text", "x")


def test_ports(capsys: pytest.CaptureFixture[str]) -> None:
    for port in ("0", "-1", "65536"):
        assert f"--port: found {port}; allowed: 1 to 65535" in refused(capsys, "serve", "news", "--port", port)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        said = refused(capsys, "serve", "news", "--port", port)
    assert f"cannot listen on 127.0.0.1:{port}" in said
    assert "in use" in said
    assert "cannot listen on 192.0.2.1:8080" in refused(capsys, "serve", "news", "--host", "192.0.2.1")


def test_an_unknown_log_level(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVERGREEN_LOG", "verbose")
    assert "EVERGREEN_LOG is 'VERBOSE'; allowed: DEBUG" in refused(capsys, "releases", "news")


def test_texts_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "texts.jsonl"
    # U+2028 parts no line of JSONL; Windows writes a mark at the start and two characters at the end of a line.
    path.write_bytes(b'\xef\xbb\xbf{"text": "one\xe2\x80\xa8two"}\r\n\r\n"three"\n{"text": "four", "id": 4}')
    assert commands._texts(path) == ["one\u2028two", "three", "four"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "has no texts"),
        (b'"a"\nnot json\n', ":2: not JSON"),
        (b'"a"\n{"txt": "b"}\n', ':2: found \'{"txt": "b"}\''),
        (b'"caf\xe9"\n', "is not UTF-8: .* at byte 4"),
        (b'"half \\ud800"\n', ":1: found "),
        (b"[" * 100_000, ":1: not JSON"),
    ],
)
def test_files_without_usable_texts(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "texts.jsonl"
    path.write_bytes(content)
    with pytest.raises(UserError, match=said):
        commands._texts(path)


def test_a_file_that_cannot_be_read(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert "No such file" in refused(capsys, "predict", "news", "--file", str(tmp_path / "absent"))
    assert "Is a directory" in refused(capsys, "predict", "news", "--file", str(tmp_path))


def test_check_names_the_base_and_the_data(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    values = {
        "name": "t",
        "task": "text-classification",
        "data": {"source": "absent.jsonl"},
        "model": {"base": "absent-model"},
    }
    path = tmp_path / "t.yaml"
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    said = refused(capsys, "check", str(path))
    assert "absent-model" in said
    assert "absent.jsonl" in said
    (tmp_path / "absent.jsonl").write_text("".join(json.dumps(row) + "\n" for row in tiny_rows(30)))
    said = refused(capsys, "check", str(path))
    assert "absent-model" in said
    assert "no such file or folder" not in said


def test_check_knows_the_metrics_of_the_labels(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tiny_file(tmp_path)
    assert main(["check", str(path)]) == 0
    assert "in order" in capsys.readouterr().out
    said = refused(capsys, "check", str(path), "--set", "gate.metric=f1/fire")
    assert "gate.metric: found 'f1/fire'; allowed with these labels: accuracy, macro_f1, weighted_f1, f1/metals" in said


def test_a_first_suite_is_written_once_and_passes(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "pipelines").mkdir()
    path = tmp_path / "pipelines" / "tiny.yaml"
    tiny_file(tmp_path).rename(path)
    assert main(["expectations", "init", str(path)]) == 0
    suite = tmp_path / "expectations" / "tiny.yaml"
    assert f"wrote {suite}" in (said := capsys.readouterr().out)
    assert "expectations: expectations/tiny.yaml" in said
    text = suite.read_text(encoding="utf-8")
    for kind in (
        "expect_labels_to_have_rows",
        "expect_text_encoding_to_be_intact",
        "expect_new_rows_to_resemble_old_ones",
    ):
        assert kind in text
    assert main(["expectations", "init", str(path)]) == 2
    assert "--force writes it anew" in capsys.readouterr().err
    path.write_text(path.read_text(encoding="utf-8") + "expectations: expectations/tiny.yaml\n", encoding="utf-8")
    assert main(["check", str(path)]) == 0
    suite.unlink()  # the file names a suite that is not there yet
    assert main(["expectations", "init", str(path)]) == 0
    assert suite.exists()
