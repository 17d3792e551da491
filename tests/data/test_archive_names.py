"""Rows of several archives: each has an id of its own, whatever the members are called."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest
from sources import rows_of


def pack(path: Path, members: dict[str, str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def line(text: str) -> str:
    return json.dumps({"text": text, "label": "sun"}) + "\n"


def test_equal_members_of_two_archives_have_two_ids(tmp_path: Path) -> None:
    for month in ("01", "02"):
        pack(tmp_path / "in" / "2024" / f"{month}.zip", {"rows.jsonl": line(f"month {month}")})
    (tmp_path / "in" / "rows.jsonl").write_text(line("plain"))
    assert [(row.row_id, row.text) for row in rows_of(tmp_path / "in")] == [
        ("2024/01.zip/rows.jsonl:1", "month 01"),
        ("2024/02.zip/rows.jsonl:1", "month 02"),
        ("rows.jsonl:1", "plain"),
    ]
    found = rows_of(f"{tmp_path}/in/2024/*.zip")
    assert [row.row_id for row in found] == ["01.zip/rows.jsonl:1", "02.zip/rows.jsonl:1"]
    # A second month changes no id of the first.
    (tmp_path / "in" / "2024" / "02.zip").unlink()
    assert [row.row_id for row in rows_of(f"{tmp_path}/in/2024/*.zip")] == ["01.zip/rows.jsonl:1"]


def test_an_archive_named_outright_is_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = pack(tmp_path / "month 1.zip", {"rows.jsonl": line("one")})
    monkeypatch.chdir(tmp_path)
    for source in (path, path.as_uri(), "month 1.zip", "./month 1.zip"):
        assert [row.row_id for row in rows_of(source)] == ["rows.jsonl:1"], source


def test_text_folders_in_several_archives_keep_their_labels(tmp_path: Path) -> None:
    for month in ("01", "02"):
        pack(tmp_path / f"{month}.zip", {"top/sun/1.txt": f"warm {month}", "top/rain/1.txt": f"wet {month}"})
    assert [(row.row_id, row.text, row.label) for row in rows_of(tmp_path)] == [
        ("01.zip/rain/1.txt", "wet 01", "rain"),
        ("01.zip/sun/1.txt", "warm 01", "sun"),
        ("02.zip/rain/1.txt", "wet 02", "rain"),
        ("02.zip/sun/1.txt", "warm 02", "sun"),
    ]
