"""CSV files: which rows there are, and which columns they have."""

from __future__ import annotations

from pathlib import Path

from sources import rows_of


def test_lines_within_quotes_are_never_rows_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text('text,label\n"Hello\nbuy now,spam\nbye",ham,\nok,ham\n"a\nb\nc",sun,1\n"x,y\n,z",rain\n')
    rows = rows_of(path)
    assert [(row.row_id, row.problem) for row in rows] == [
        ("rows.csv:2", "malformed"),
        ("rows.csv:5", None),
        ("rows.csv:6", "malformed"),
        ("rows.csv:9", None),
    ]
    assert (rows[0].text or "").startswith("Hello\nbuy now,spam\nbye,ham")
    assert [row.text for row in rows if not row.problem] == ["ok", "x,y\n,z"]
