"""Tokens: pieces and offsets against the tokenizers' own, windows that lose nothing, words of raw text, legal tags."""

from __future__ import annotations

import itertools
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import tiny_tokenizer
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from mlops.data.tags import illegal
from mlops.tasks import get
from mlops.tasks.base import IGNORED
from mlops.tasks.paths import best_path
from mlops.tasks.pieces import Pieces
from mlops.tasks.splitting import joins, words, written
from mlops.tasks.windows import joined, split, windowed

TASK = get("token-classification")


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return Tokenizer.from_file(str(tiny_tokenizer(tmp_path_factory.mktemp("tokenizer"))))


def test_first_pieces_are_those_that_the_tokenizer_itself_names(tokenizer: Tokenizer) -> None:
    tokens = ["bado", "unheard-of", "x", "42.5", "ba"]
    found = Pieces(tokenizer, 64).windowed(tokens)
    theirs = tokenizer.encode(tokens, is_pretokenized=True)
    assert found.input_ids.tolist() == theirs.ids
    first = [theirs.word_ids.index(word) for word in range(len(tokens))]
    assert found.starts.tolist() == first
    assert found.bounds.tolist() == [len(theirs.ids)]


def test_a_token_of_nothing_stays_a_token(tokenizer: Tokenizer) -> None:
    found = Pieces(tokenizer, 64).windowed(["ba", "\u2423", "\ufe0f", "do"])
    assert len(found.starts) == 4
    assert len(set(found.starts.tolist())) == 4


def test_what_is_forgotten_of_too_many_tokens_is_cut_again(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlops.tasks.pieces._MOST_KNOWN", 3)
    pieces = Pieces(tokenizer, 64)
    for tokens in (["ba", "do"], ["ba", "ki", "lu"], ["ki", "ki"], ["a", "b", "c", "d", "ba"]):
        assert pieces.windowed(tokens).input_ids.tolist() == Pieces(tokenizer, 64).windowed(tokens).input_ids.tolist()
        assert len(pieces._known) <= max(3, len(set(tokens)))


def test_threads_that_forget_do_not_take_each_others_tokens(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlops.tasks.pieces._MOST_KNOWN", 5)
    pieces = Pieces(tokenizer, 64)
    texts = [[f"{number % 7}", f"x{number % 11}", f"y{number}"] for number in range(400)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(pieces.windowed, texts))
    for one, other in zip(found, map(Pieces(tokenizer, 64).windowed, texts), strict=True):
        assert one.input_ids.tolist() == other.input_ids.tolist()


def test_glued_tokens_of_a_script_without_blanks_carry_no_mark_of_one() -> None:
    vocabulary = [("<unk>", 0.0), ("\u2581", -2.0), ("浙", -3.0), ("商", -3.0), ("\u2581ESB", -3.0), ("</s>", 0.0)]
    unigram = Tokenizer(models.Unigram(vocabulary, unk_id=0))
    unigram.normalizer = normalizers.NFKC()
    unigram.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    unigram.post_processor = processors.TemplateProcessing("$A </s>", special_tokens=[("</s>", 5)])
    found = Pieces(unigram, 16).windowed(["浙", "商", "ESB"])
    assert [unigram.id_to_token(int(each)) for each in found.input_ids] == ["\u2581", "浙", "商", "\u2581ESB", "</s>"]
    assert found.starts.tolist() == [0, 2, 3]


PIECES = st.lists(st.lists(st.integers(10, 99), min_size=1, max_size=5), max_size=60)


@settings(max_examples=300, deadline=None)
@given(PIECES, st.integers(3, 20))
def test_every_token_is_answered_for_once_and_has_its_first_piece_there(pieces: list[list[int]], longest: int) -> None:
    row = windowed(pieces, [1], [2], longest)
    windows, places = split(row)
    assert sum(map(len, places)) == len(row.starts) == len(pieces)
    assert all(len(window) <= longest and window[0] == 1 and window[-1] == 2 for window in windows)
    firsts = [int(window[place]) for window, where in zip(windows, places, strict=True) for place in where]
    assert firsts == [each[0] for each in pieces]
    # What a window answers is put together again in the tokens' order.
    logits = [np.stack([window, window], axis=1).astype(np.float32) for window in windows]
    assert joined(logits, places)[:, 0].tolist() == firsts


def test_tokens_are_answered_for_where_they_have_context() -> None:
    row = windowed([[token + 10] for token in range(100)], [1], [2], 42)
    windows, places = split(row)
    for number, (window, where) in enumerate(zip(windows, places, strict=True)):
        if number:
            assert where[0] >= 5  # half of a quarter of forty, behind the first special id
        if number + 1 < len(windows):
            assert len(window) - 1 - where[-1] >= 5


def test_a_window_too_short_for_its_special_ids_is_refused() -> None:
    with pytest.raises(ValueError, match="the longest window has 2 ids, 2 of them special"):
        windowed([[5]], [1], [2], 2)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Mr. Smith's dog, Rex.", ["Mr.", "Smith", "'s", "dog", ",", "Rex", "."]),
        ("(U.S. won!)", ["(", "U.S.", "won", "!", ")"]),
        ("see http://a.b/c?d=1, @me #tag 3.5", ["see", "http://a.b/c?d=1", ",", "@me", "#tag", "3.5"]),
        ("浙商银行ABC说：好。", ["浙", "商", "银", "行", "ABC", "说", "：", "好", "。"]),
        ("  \n ", []),
        ("don't we're 's", ["don't", "we", "'re", "'", "s"]),
        ("🙂🙂 ok", ["🙂🙂", "ok"]),
    ],
)
def test_words_of_raw_text(text: str, expected: list[str]) -> None:
    assert [text[start:end] for start, end in words(text)] == expected


def test_words_of_a_text_made_to_take_long() -> None:
    started = time.perf_counter()
    found = words("a." * 50_000 + "!" * 50_000)
    assert len(found) == 1 + 50_000 + 1  # its last full stop too: no abbreviation is that long
    assert time.perf_counter() - started < 5


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=60))
def test_words_leave_out_white_space_alone(text: str) -> None:
    places = words(text)
    assert all(start < end for start, end in places)
    assert all(one[1] <= other[0] for one, other in itertools.pairwise(places))
    inside = {place for start, end in places for place in range(start, end)}
    assert all(text[place].isspace() for place in range(len(text)) if place not in inside)
    assert not any(text[place].isspace() for place in inside)


def test_tokens_are_written_as_their_script_writes_them() -> None:
    text, places = written(["浙", "商", "ESB", "wins", "。"])
    assert text == "浙商 ESB wins 。"
    assert [text[start:end] for start, end in places] == ["浙", "商", "ESB", "wins", "。"]
    assert not joins("a", "b")


LABELS = TASK.outputs(["LOC", "PER"])


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 5))
def test_the_path_is_the_best_of_all_legal_ones(seed: int, tokens: int) -> None:
    chances = np.random.default_rng(seed).dirichlet(np.ones(len(LABELS)), tokens)
    path = best_path(chances, LABELS)
    assert not illegal([LABELS[place] for place in path])
    scores = (
        {
            ways: np.log(chances[np.arange(tokens), ways]).sum()
            for ways in itertools.product(range(len(LABELS)), repeat=tokens)
            if not illegal([LABELS[place] for place in ways])
        }
        if tokens < 5
        else {}
    )
    if scores:
        assert np.log(chances[np.arange(tokens), path]).sum() == pytest.approx(max(scores.values()))


@pytest.mark.parametrize("heat", [1, 4])
def test_the_path_of_a_model_that_is_sure_is_the_same_at_every_temperature(heat: int) -> None:
    # The first token is surely inside of something, which it cannot be; what else is probable is so by 1e-22 and less.
    logits = np.array([[0, 30, 80], [10, 0, 0]]) / heat
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    chances = powers / powers.sum(axis=1, keepdims=True)
    assert best_path(chances, ["O", "B-PER", "I-PER"]).tolist() == [1, 0]


def test_answers_are_characters_of_the_raw_text() -> None:
    text = "Rex lives in  New York."
    logits = np.full((6, len(LABELS)), -5.0, dtype=np.float32)
    for token, tag in enumerate(["B-PER", "O", "O", "B-LOC", "I-LOC", "O"]):
        logits[token, LABELS.index(tag)] = 5.0
    (found,) = TASK.decode([logits], [text], LABELS)
    assert [(each["type"], each["text"], text[each["start"] : each["end"]]) for each in found] == [
        ("PER", "Rex", "Rex"),
        ("LOC", "New York", "New York"),
    ]
    assert all(0.9 < each["score"] <= 1 for each in found)


def test_only_first_pieces_are_learned_in_every_window(tmp_path: Path, tokenizer: Tokenizer) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    tokens = ["bado", "kiluxx", "me"] * 12
    tags = ["B-PER", "I-PER", "O"] * 12
    row = Pieces(tokenizer, 20).windowed(tokens)
    columns = {"row_id": ["a"], "label": [" ".join(tags)]}
    columns |= {name: [getattr(row, name).tolist()] for name in ("input_ids", "bounds", "starts")}
    kinds = {name: pa.list_(pa.int32()) for name in ("input_ids", "bounds", "starts")}
    pq.write_table(
        pa.table({name: pa.array(value, kinds.get(name)) for name, value in columns.items()}), tmp_path / "rows.parquet"
    )
    examples = TASK.read(tmp_path, LABELS)
    assert len(examples) == len(row.bounds) > 1
    learned = np.concatenate([target[target != IGNORED] for target in examples.targets])
    assert [LABELS[place] for place in learned] == tags
    assert TASK.counts(examples, LABELS).sum() == len(tags)
    assert Counter(examples.row_ids) == {"a": len(row.bounds)}
    # Perfect logits of every window give perfect entities of the document.
    logits = [np.eye(len(LABELS), dtype=np.float32)[np.maximum(target, 0)] for target in examples.targets]
    assert TASK.metrics(logits, examples, LABELS)["f1"] == 1.0
