from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import pytest

from mlops.data.conll import read_conll
from mlops.data.rows import Record
from mlops.data.tags import entities, illegal, scheme, to_iob2
from mlops.data.uris import SourceFile

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"

# Four columns as in CoNLL-2003: token, part of speech, chunk, and the entity in IOB1.
NEWS = """\
-DOCSTART- -X- -X- O

Harbour NNP I-NP I-ORG
Board NNP I-NP I-ORG
of IN I-PP O
Tromsø NNP I-NP I-LOC
sues VBZ I-VP O
Anna NNP I-NP I-PER
Berg NNP I-NP I-PER
Carl NNP B-NP B-PER
Dahl NNP I-NP I-PER
. . O O

-DOCSTART- -X- -X- O

OSLO NNP I-NP I-LOC
1996-08-22 CD I-NP O
"""


def records(path: Path, limit: int = 1_000_000) -> list[Record]:
    seen: dict[str, None] = {}
    found = list(read_conll(SourceFile(path.name, path), limit, ["tokens", "tags"], seen))
    assert list(seen) == ["tokens", "tags"]
    for record in found:
        (record.preview or "").encode("utf-8")
        assert len(record.preview or "") <= 1000
    return found


def read(path: Path, data: str | bytes, limit: int = 1_000_000) -> list[tuple[int, object]]:
    """(line, problem or cells as TOKEN/TAG ...) of each record."""
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    found: list[tuple[int, object]] = []
    for place, cells, problem, _ in records(path, limit):
        name, _, line = place.rpartition(":")
        assert name == path.name
        pairs = " ".join(f"{a}/{b}" for a, b in zip(cells["tokens"], cells["tags"], strict=True)) if cells else problem
        found.append((int(line), pairs))
    return found


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "eng.conll"


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("start", ["", "\ufeff"])
def test_a_newspaper_corpus(path: Path, end: str, start: str) -> None:
    path.write_bytes((start + NEWS).replace("\n", end).encode())
    first, second = records(path)
    assert (first.place, second.place) == ("eng.conll:3", "eng.conll:16")
    assert first.cells is not None
    assert second.cells == {"tokens": ["OSLO", "1996-08-22"], "tags": ["I-LOC", "O"]}
    assert first.cells["tokens"][:4] == ["Harbour", "Board", "of", "Tromsø"]
    told = scheme([first.cells["tags"], second.cells["tags"]])
    assert told == "IOB1"
    tags = to_iob2(first.cells["tags"], told)
    assert entities(tags) == [("ORG", 0, 2), ("LOC", 3, 4), ("PER", 5, 7), ("PER", 7, 9)]


def test_columns_are_parted_by_tabs_where_there_is_one(path: Path) -> None:
    assert read(path, "New York\tB-LOC\nis\tO\n\n東京\u3000都  S-LOC \n") == [
        (1, "New York/B-LOC is/O"),
        (4, "東京\u3000都/S-LOC"),
    ]


def test_sentences_whose_columns_do_not_fit_are_malformed(path: Path) -> None:
    data = "alone\nwords\n\na O\nb X O\nc O\n\n\tO\na\tO\n\nd O\ne\n\nlast O"
    assert read(path, data) == [(1, "malformed"), (4, "malformed"), (8, "/O a/O"), (11, "malformed"), (14, "last/O")]
    assert [record.preview for record in records(path) if record.problem] == ["alone", "b X O", "e"]


def test_comments_are_passed_over(path: Path) -> None:
    data = "# newdoc id = O\n# text = vitamin O\n1\tvitamin\tB-X\n# 5\tno comment\tO\n\n# only a comment\n\n"
    data += "# id 6b0f domain=en\nword _ _ B-X\n# _ _ O\n"
    assert read(path, data) == [(3, "1/B-X # 5/O"), (9, "word/B-X #/O")]


def test_a_hash_as_the_first_token_is_no_comment(path: Path) -> None:
    assert read(path, "# O\nsong B-X\n\n# O\n# O\n\n#\tO\nsong\tB-X\n") == [
        (1, "#/O song/B-X"),
        (4, "#/O #/O"),
        (7, "#/O song/B-X"),
    ]


def test_a_document_ends_the_sentence(path: Path) -> None:
    assert read(path, "a O\n-DOCSTART-\nb O\n-DOCSTART- -X- O O\n\n") == [(1, "a/O"), (3, "b/O")]


def test_bytes_that_are_not_utf8_cost_their_cell_only(path: Path) -> None:
    assert read(path, b"caf\xe9 O\nfine B-X\n\nnul\x00 O\n\n\xff\xff\n") == [
        (1, "caf\udce9/O fine/B-X"),
        (4, "nul\x00/O"),
        (6, "malformed"),
    ]


@pytest.mark.parametrize("data", ["", "\n", "\r\n \n\t\t\n", "\ufeff", "\ufeff\n", "# nothing"])
def test_nothing_in_a_file(path: Path, data: str) -> None:
    assert read(path, data) == []


def test_the_most_bytes_of_a_sentence(path: Path) -> None:
    # Joined by blanks the tokens are 7 bytes, the tags 5: neither the other columns nor the line ends count.
    data = "äb pos B-X\ncde pos O\n"
    assert read(path, data, limit=7) == [(1, "äb/B-X cde/O")]
    assert read(path, data, limit=6) == [(1, "too_large")]
    assert read(path, f"a {'T' * 8}\n\nb O\n", limit=7) == [(1, "too_large"), (3, "b/O")]


def measured(path: Path) -> tuple[list[Record], int]:
    """What is read with a limit of 1,000 bytes, and the most memory that it took."""
    tracemalloc.start()
    try:
        return records(path, limit=1000), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("rest", [b" O\n", b"", b" O\n" + b"a O\n" * 100_000])
def test_a_line_without_end_takes_no_memory(path: Path, rest: bytes) -> None:
    with path.open("wb") as stream:
        for _ in range(50):
            stream.write(b"x" * 1_000_000)
        stream.write(rest + b"\n\nlast O\n")
    (first, last), peak = measured(path)
    assert (first.problem, first.place, first.preview) == ("too_large", "eng.conll:1", "x" * 1000)
    assert last.cells == {"tokens": ["last"], "tags": ["O"]}
    assert peak < 8_000_000


def test_a_sentence_without_end_takes_no_memory(path: Path) -> None:
    path.write_bytes(b"token with other columns O\n" * 200_000 + b"\nlast O\n")
    (first, last), peak = measured(path)
    assert (first.problem, last.place) == ("too_large", "eng.conll:200002")
    assert peak < 1_000_000


@pytest.mark.skipif(
    not (DATA / "wnut17").is_dir(), reason=f"{DATA / 'wnut17'} is not here: real data sets are kept beside the project"
)
@pytest.mark.parametrize("part", ["train", "dev", "test"])
@pytest.mark.parametrize("separator", ["\t", " "])
def test_a_real_corpus_goes_round(path: Path, part: str, separator: str) -> None:
    text = (DATA / "wnut17" / f"{part}.jsonl").read_text(encoding="utf-8")
    rows = [json.loads(line) for line in text.split("\n") if line]
    blocks = ["".join(f"{a}{separator}{b}\n" for a, b in zip(row["tokens"], row["tags"], strict=True)) for row in rows]
    path.write_bytes("\n".join(blocks).encode())
    assert [record.cells for record in records(path)] == [
        {"tokens": row["tokens"], "tags": row["tags"]} for row in rows
    ]
    assert scheme(row["tags"] for row in rows) == "IOB2"
    for row in rows:
        assert illegal(row["tags"]) == []
        assert to_iob2(row["tags"], "IOB2") == row["tags"]
