from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops.data.conll import read_conll
from mlops.data.tags import entities, illegal, scheme, to_iob2
from mlops.data.uris import SourceFile

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
# Segments of a sentence: a type, or none for what is outside, and a length.
SENTENCE = st.lists(st.tuples(st.sampled_from(["", "PER", "LOC"]), st.integers(1, 3)), max_size=8)


def written(sentence: list[tuple[str, int]], how: str) -> list[str]:
    tags: list[str] = []
    for kind, length in sentence:
        if not kind:
            tags += ["O"] * length
            continue
        body = ["B", *["I"] * (length - 1)]
        if how == "IOB1" and not (tags and tags[-1].endswith(f"-{kind}")):
            body[0] = "I"
        if how in ("BIOES", "BILOU"):
            last, single = ("E", "S") if how == "BIOES" else ("L", "U")
            body = [single] if length == 1 else [*body[:-1], last]
        tags += [f"{prefix}-{kind}" for prefix in body]
    return tags


@given(st.lists(SENTENCE, min_size=1, max_size=4), st.sampled_from(["IOB1", "IOB2", "BIOES", "BILOU"]))
def test_whatever_the_scheme_the_entities_are_the_same(corpus: list[list[tuple[str, int]]], how: str) -> None:
    sequences = [written(sentence, how) for sentence in corpus]
    told = scheme(sequences)
    for sentence, tags in zip(corpus, sequences, strict=True):
        converted = to_iob2(tags, told)
        assert illegal(converted) == []
        assert converted == written(sentence, "IOB2")
        assert entities(converted) == entities(written(sentence, "IOB2"))


def test_schemes_are_told() -> None:
    assert scheme([["O", "I-PER", "I-PER", "B-PER"]]) == "IOB1"
    assert scheme([["O", "B-PER", "I-PER"]]) == "IOB2"
    assert scheme([["O", "B-PER", "I-PER"], ["I-LOC"]]) == "IOB1"
    assert scheme([["S-PER", "O"]]) == scheme([["B-X", "L-X"]]) == scheme([["B-X", "M-X", "E-X"]]) == "BIOES"
    assert scheme([]) == scheme([["O"]]) == "IOB2"


def test_what_strict_iob2_does_not_allow() -> None:
    assert illegal(["O", "I-PER", "B-LOC", "I-PER", "X", "B-", "", "B-PER", "I-PER"]) == [1, 3, 4, 5, 6]
    assert entities(["I-PER", "B-LOC", "I-PER", "B-LOC", "I-LOC"]) == [("LOC", 1, 2), ("LOC", 3, 5)]


def read(path: Path, limit: int = 1_000_000) -> list[tuple[str, object]]:
    seen: dict[str, None] = {}
    records = list(read_conll(SourceFile(path.name, path), limit, ["tokens", "tags"], seen))
    assert list(seen) == ["tokens", "tags"]
    return [(record.place, record.problem or record.cells) for record in records]


def test_sentences_are_read(tmp_path: Path) -> None:
    path = tmp_path / "eng.conll"
    text = "\ufeff-DOCSTART- -X- O O\r\n\r\nEU NNP I-NP I-ORG\r\nrejects VBZ I-VP O\r\n\r\n\r\n# id 7\nPeter\tB-PER\n"
    text += "# x\tO\nlone\n\n"
    path.write_bytes((text + "one\n\nNew York\tB-LOC\n").encode() + b"caf\xe9 O")
    assert read(path) == [
        ("eng.conll:3", {"tokens": ["EU", "rejects"], "tags": ["I-ORG", "O"]}),
        ("eng.conll:8", "malformed"),
        ("eng.conll:12", "malformed"),
        ("eng.conll:14", {"tokens": ["New York", "caf\udce9"], "tags": ["B-LOC", "O"]}),
    ]


def test_a_sentence_without_end_takes_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "big.conll"
    path.write_bytes(b"x" * 50_000_000 + b" O\n" + b"a O\n" * 200_000 + b"\nlast O\n")
    found = read(path, limit=1000)
    assert found == [("big.conll:1", "too_large"), ("big.conll:200003", {"tokens": ["last"], "tags": ["O"]})]


@pytest.mark.skipif(
    not (DATA / "wnut17").is_dir(), reason=f"{DATA} is not here: real data sets are kept beside the project"
)
def test_a_real_corpus_goes_round(tmp_path: Path) -> None:
    rows = [json.loads(line) for line in (DATA / "wnut17" / "dev.jsonl").read_text(encoding="utf-8").splitlines()]
    path = tmp_path / "wnut.conll"
    blocks = ["\n".join(f"{a}\t{b}" for a, b in zip(row["tokens"], row["tags"], strict=True)) for row in rows]
    path.write_text("\n\n".join(blocks) + "\n", encoding="utf-8")
    found = [cells for _, cells in read(path)]
    assert found == [{"tokens": row["tokens"], "tags": row["tags"]} for row in rows]
    assert scheme(row["tags"] for row in rows) == "IOB2"
    assert not any(illegal(row["tags"]) for row in rows)
