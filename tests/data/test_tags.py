from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops.data.tags import SCHEMES, entities, illegal, scheme, to_iob2

# Segments of a sentence: a type, or none for what is outside, and a length.
SENTENCE = st.lists(st.tuples(st.sampled_from(["", "PER", "LOC"]), st.integers(1, 3)), max_size=8)
SPELLINGS = {"BIOES": "BIES", "BILOU": "BILU", "BMES": "BMES", "BMEWO": "BMEW"}
TAGS = st.lists(
    st.one_of(
        st.sampled_from(["O", "", "-", "B-", "I", "PER", "X-PER", "B-creative-work", "I-creative-work"]),
        st.builds("{}-{}".format, st.sampled_from("BIESLUMW"), st.sampled_from(["PER", "LOC"])),
    ),
    max_size=10,
)


def written(sentence: list[tuple[str, int]], how: str) -> list[str]:
    tags: list[str] = []
    for kind, length in sentence:
        if not kind:
            tags += ["O"] * length
            continue
        body = ["B", *["I"] * (length - 1)]
        if how == "IOB1" and not (tags and tags[-1].endswith(f"-{kind}")):
            body[0] = "I"
        if how in SPELLINGS:
            begin, inside, end, single = SPELLINGS[how]
            body = [single] if length == 1 else [begin, *[inside] * (length - 2), end]
        tags += [f"{prefix}-{kind}" for prefix in body]
    return tags


def spans(sentence: list[tuple[str, int]]) -> list[tuple[str, int, int]]:
    found, place = [], 0
    for kind, length in sentence:
        if kind:
            found.append((kind, place, place + length))
        place += length
    return found


@given(st.lists(SENTENCE, min_size=1, max_size=4), st.sampled_from(["IOB1", "IOB2", *SPELLINGS]))
def test_whatever_the_scheme_the_entities_are_the_same(corpus: list[list[tuple[str, int]]], how: str) -> None:
    sequences = [written(sentence, how) for sentence in corpus]
    told = scheme(sequences)
    for sentence, tags in zip(corpus, sequences, strict=True):
        converted = to_iob2(tags, told)
        assert illegal(converted) == []
        assert converted == written(sentence, "IOB2")
        assert entities(converted) == spans(sentence)


@given(st.lists(TAGS, max_size=4))
def test_any_tags_at_all_can_be_told_and_converted(sequences: list[list[str]]) -> None:
    told = scheme(sequences)
    assert told in SCHEMES
    for tags in sequences:
        converted = to_iob2(tags, told)
        assert len(converted) == len(tags)
        inside = {place for _, start, end in entities(converted) for place in range(start, end)}
        # Each position is outside, in an entity or told as illegal: nothing is lost between them.
        outside = {place for place, tag in enumerate(converted) if tag == "O"}
        assert sorted([*inside, *outside, *illegal(converted)]) == list(range(len(tags)))


def test_schemes_are_told() -> None:
    assert scheme([["O", "I-PER", "I-PER", "B-PER"]]) == "IOB1"
    assert scheme([["O", "B-PER", "I-PER"]]) == "IOB2"
    assert scheme([["O", "B-PER", "I-PER"], ["I-LOC"]]) == "IOB1"
    assert scheme([["B-PER", "I-LOC"]]) == "IOB1"
    assert scheme([["S-PER", "O"]]) == scheme([["B-X", "L-X"]]) == scheme([["B-X", "M-X", "E-X"]]) == "BIOES"
    assert scheme([]) == scheme([["O"]]) == scheme([[]]) == "IOB2"


def test_the_sequences_may_come_one_by_one() -> None:
    assert scheme(tags for tags in [["B-PER"], ["I-PER"]]) == "IOB1"


def test_neighbours_of_one_type_in_iob1_stay_two() -> None:
    tags = ["I-PER", "I-PER", "B-PER", "I-PER", "I-LOC", "O", "I-LOC"]
    converted = to_iob2(tags, "IOB1")
    assert converted == ["B-PER", "I-PER", "B-PER", "I-PER", "B-LOC", "O", "B-LOC"]
    assert entities(converted) == [("PER", 0, 2), ("PER", 2, 4), ("LOC", 4, 5), ("LOC", 6, 7)]


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("B-X O", "E-X O"),  # no end
        ("B-X I-X", "E-X E-X"),
        ("I-X E-X", "E-X E-X"),  # no start
        ("E-X", "E-X"),
        ("B-X E-Y", "E-X E-Y"),
        ("B-X I-X S-X", "E-X E-X B-X"),
        ("S-X I-X", "B-X E-X"),
        ("B-X E-X E-X", "B-X I-X E-X"),
        ("B-X B-X E-X", "E-X B-X I-X"),
        ("B-X O E-X", "E-X O E-X"),
        ("B-X ? E-X", "E-X ? E-X"),
    ],
)
def test_half_an_entity_in_bioes_is_told_and_never_made_a_whole_one(tags: str, expected: str) -> None:
    converted = to_iob2(tags.split(), "BIOES")
    assert converted == expected.split()
    assert illegal(converted) == [place for place, tag in enumerate(converted) if tag[0] in "E?"]


def test_tags_of_another_scheme_are_left_to_be_told() -> None:
    assert to_iob2(["S-X", "I-X", "PER", ""], "IOB1") == ["S-X", "B-X", "PER", ""]
    with pytest.raises(ValueError, match="found the scheme 'IOE'; allowed: IOB2, IOB1, BIOES"):
        to_iob2(["O"], "IOE")


def test_what_strict_iob2_does_not_allow() -> None:
    assert illegal(["O", "I-PER", "B-LOC", "I-PER", "X", "B-", "", "B-PER", "I-PER"]) == [1, 3, 4, 5, 6]
    assert entities(["I-PER", "B-LOC", "I-PER", "B-LOC", "I-LOC"]) == [("LOC", 1, 2), ("LOC", 3, 5)]
    assert entities(["B-creative-work", "I-creative-work", "I-creative"]) == [("creative-work", 0, 2)]
    assert entities([]) == illegal([]) == []
