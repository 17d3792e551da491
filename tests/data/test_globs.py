"""Local globs: plain files below the fixed folder, each once; links are passed over as in a folder, wherever they lead."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path

import pytest

from mlops.data.uris import locate
from mlops.errors import SourceError


def write(path: Path, text: str = "x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def found(pattern: Path | str) -> list[str]:
    return [file.name for file in locate(str(pattern))]


def test_a_link_out_of_the_folder_is_not_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path / "data" / "a.jsonl")
    secret = write(tmp_path / "secret.jsonl")
    (tmp_path / "data" / "link.jsonl").symlink_to(secret)
    (tmp_path / "data" / "out").symlink_to(tmp_path)
    with caplog.at_level(logging.WARNING, "evergreen"):
        assert found(tmp_path / "data" / "*.jsonl") == ["a.jsonl"]
    assert "skipped 1 symbolic links: link.jsonl" in caplog.text
    assert found(tmp_path / "data" / "**" / "*.jsonl") == ["a.jsonl"]
    with pytest.raises(SourceError, match="is empty"):
        locate(f"{tmp_path}/data/*/secret.jsonl")
    # Named outright, a link is what was asked for.
    assert found(tmp_path / "data" / "link.jsonl") == ["link.jsonl"]
    assert found(tmp_path / "data" / "out" / "s*.jsonl") == ["secret.jsonl"]


def test_links_that_go_in_circles_end_at_once(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl")
    for number in range(3):
        (tmp_path / f"loop{number}").symlink_to(".")
    started = time.monotonic()
    assert found(tmp_path / "**" / "*.jsonl") == ["a.jsonl"]
    assert time.monotonic() - started < 5


def test_what_matches_is_found_once_as_in_a_shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a.csv", "2024-01/b.csv", "2024-02/deep/c.csv", "2024-02/d.txt", "old/e.csv", ".hid/f.csv", ".g.csv"):
        write(tmp_path / name)
    for pattern, names in {
        "**/*.csv": ["2024-01/b.csv", "2024-02/deep/c.csv", "a.csv", "old/e.csv"],
        "**": ["2024-01/b.csv", "2024-02/d.txt", "2024-02/deep/c.csv", "a.csv", "old/e.csv"],
        "2024-*": ["2024-01/b.csv", "2024-02/d.txt", "2024-02/deep/c.csv"],
        "2024-*/": ["2024-01/b.csv", "2024-02/d.txt", "2024-02/deep/c.csv"],
        "2024-??/*.csv": ["2024-01/b.csv"],
        "2024-0[12]/**/*.csv": ["2024-01/b.csv", "2024-02/deep/c.csv"],
        "2024-02/**/*": ["d.txt", "deep/c.csv"],
        "**/2024-01/**/b.csv": ["2024-01/b.csv"],
        "*.csv": ["a.csv"],
        ".h*/*.csv": [".hid/f.csv"],
        ".*.csv": [".g.csv"],
        ".hid/*.csv": ["f.csv"],
    }.items():
        assert found(f"{tmp_path}/{pattern}") == names, pattern
        assert found(f"file://{tmp_path}/{pattern}") == names, pattern
        assert found(f"file://localhost{tmp_path}/{pattern}".replace("?", "%3F")) == names, pattern
    monkeypatch.chdir(tmp_path)
    assert found("*/*.csv") == ["2024-01/b.csv", "old/e.csv"]
    assert locate("*.csv")[0].path.samefile(tmp_path / "a.csv")


def test_a_file_whose_name_holds_a_sign_is_that_file(tmp_path: Path) -> None:
    write(tmp_path / "a[1].csv")
    write(tmp_path / "a1.csv")
    assert found(tmp_path / "a[1].csv") == ["a[1].csv"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may list every folder")
def test_a_folder_that_cannot_match_is_not_listed(tmp_path: Path) -> None:
    write(tmp_path / "a.csv")
    closed = write(tmp_path / "closed" / "b.csv").parent
    closed.chmod(0)
    try:
        assert found(tmp_path / "*.csv") == ["a.csv"]
        with pytest.raises(SourceError, match="closed: cannot be listed"):
            locate(f"{tmp_path}/*/b.csv")
    finally:
        closed.chmod(0o755)
